-- Version 1. One text for both databases: BLOBTYPE and TEXTKEY are replaced. Numbers are BIGINT, times are
-- milliseconds since 1970, an absent scope is '' and never NULL.
CREATE TABLE feed_head (seq BIGINT NOT NULL);
INSERT INTO feed_head (seq) VALUES (0);
CREATE TABLE changes (
  seq BIGINT PRIMARY KEY, kind TEXTKEY NOT NULL, uid TEXTKEY NOT NULL, project TEXTKEY NOT NULL, name TEXTKEY NOT NULL,
  op TEXTKEY NOT NULL, at BIGINT NOT NULL);
CREATE TABLE leases (name TEXTKEY PRIMARY KEY, holder TEXTKEY NOT NULL, epoch BIGINT NOT NULL, until BIGINT NOT NULL);
CREATE TABLE objects (
  uid TEXTKEY PRIMARY KEY, kind TEXTKEY NOT NULL, tenant TEXTKEY NOT NULL, project TEXTKEY NOT NULL, cluster TEXTKEY NOT NULL,
  name TEXTKEY NOT NULL, owner TEXTKEY NOT NULL, creator TEXTKEY NOT NULL, generation BIGINT NOT NULL, seq BIGINT NOT NULL,
  phase TEXTKEY NOT NULL, spec TEXT NOT NULL, desired TEXT NOT NULL, status TEXT NOT NULL, labels TEXT NOT NULL,
  annotations TEXT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, deleted_at BIGINT, finished_at BIGINT,
  is_current BIGINT NOT NULL);
CREATE UNIQUE INDEX objects_name ON objects (kind, project, name) WHERE is_current = 1;
-- A page is read in its own order: see db::pages.
CREATE INDEX objects_by_project ON objects (kind, project, created_at DESC, uid DESC) WHERE is_current = 1;
CREATE INDEX objects_by_kind ON objects (kind, created_at DESC, uid DESC) WHERE is_current = 1;
CREATE INDEX objects_by_phase ON objects (kind, phase, created_at DESC, uid DESC) WHERE is_current = 1;
CREATE INDEX objects_by_project_phase ON objects (kind, project, phase, created_at DESC, uid DESC) WHERE is_current = 1;
CREATE INDEX objects_active ON objects (kind, phase, uid) WHERE finished_at IS NULL;
CREATE TABLE object_labels (
  kind TEXTKEY NOT NULL, key TEXTKEY NOT NULL, value TEXTKEY NOT NULL, project TEXTKEY NOT NULL, created_at BIGINT NOT NULL,
  uid TEXTKEY NOT NULL, PRIMARY KEY (uid, key));
CREATE INDEX object_labels_find ON object_labels (kind, key, value, created_at DESC, uid DESC);
CREATE INDEX object_labels_find_in ON object_labels (kind, project, key, value, created_at DESC, uid DESC);
CREATE TABLE units (
  owner TEXTKEY NOT NULL, unit TEXTKEY NOT NULL, attempt BIGINT NOT NULL, word TEXTKEY NOT NULL, data TEXT NOT NULL,
  PRIMARY KEY (owner, unit));
CREATE TABLE tasks (
  uid TEXTKEY PRIMARY KEY, owner TEXTKEY NOT NULL, owner_kind TEXTKEY NOT NULL, tenant TEXTKEY NOT NULL,
  project TEXTKEY NOT NULL, cluster TEXTKEY NOT NULL, unit TEXTKEY NOT NULL, attempt BIGINT NOT NULL, queue TEXTKEY NOT NULL,
  priority BIGINT NOT NULL, state TEXTKEY NOT NULL, submitted_at BIGINT NOT NULL, readmit BIGINT NOT NULL);
CREATE INDEX tasks_open ON tasks (state, uid) WHERE state <> 'ended';
CREATE INDEX tasks_owner ON tasks (owner);
CREATE TABLE placements (
  owner TEXTKEY NOT NULL, grp TEXTKEY NOT NULL, idx BIGINT NOT NULL, attempt BIGINT NOT NULL, task TEXTKEY NOT NULL,
  tenant TEXTKEY NOT NULL, project TEXTKEY NOT NULL, cluster TEXTKEY NOT NULL, unit TEXTKEY NOT NULL, node TEXTKEY NOT NULL,
  devices TEXT NOT NULL, ports TEXT NOT NULL, state TEXTKEY NOT NULL, deadline BIGINT, reason TEXTKEY NOT NULL,
  epoch BIGINT NOT NULL, created_at BIGINT NOT NULL, ended_at BIGINT, ending TEXT NOT NULL,
  PRIMARY KEY (owner, grp, idx, attempt));
CREATE INDEX placements_live ON placements (cluster, node) WHERE state <> 'released';
CREATE TABLE placement_ports (
  cluster TEXTKEY NOT NULL, node TEXTKEY NOT NULL, port BIGINT NOT NULL, owner TEXTKEY NOT NULL, grp TEXTKEY NOT NULL,
  idx BIGINT NOT NULL, attempt BIGINT NOT NULL, PRIMARY KEY (cluster, node, port));
CREATE TABLE node_ids (id BIGINT PRIMARY KEY, cluster TEXTKEY NOT NULL, name TEXTKEY NOT NULL, UNIQUE (cluster, name));
CREATE TABLE events (
  uid TEXTKEY PRIMARY KEY, object TEXTKEY NOT NULL, object_kind TEXTKEY NOT NULL, object_name TEXTKEY NOT NULL,
  tenant TEXTKEY NOT NULL, project TEXTKEY NOT NULL, kind TEXTKEY NOT NULL, reason TEXTKEY NOT NULL, message TEXT NOT NULL,
  params TEXT NOT NULL, first_at BIGINT NOT NULL, last_at BIGINT NOT NULL, count BIGINT NOT NULL, seq BIGINT NOT NULL);
CREATE INDEX events_object ON events (object, last_at DESC, uid DESC);
CREATE INDEX events_project ON events (project, last_at DESC, uid DESC);
CREATE INDEX events_time ON events (last_at DESC, uid DESC);
CREATE TABLE principals (
  id TEXTKEY PRIMARY KEY, issuer TEXTKEY NOT NULL, subject TEXTKEY NOT NULL, kind TEXTKEY NOT NULL, name TEXTKEY NOT NULL,
  created_at BIGINT NOT NULL, UNIQUE (issuer, subject));
CREATE TABLE tokens (
  id TEXTKEY PRIMARY KEY, principal TEXTKEY NOT NULL, name TEXTKEY NOT NULL, hash TEXTKEY NOT NULL UNIQUE,
  scope TEXT NOT NULL, created_at BIGINT NOT NULL, expires_at BIGINT, last_used_at BIGINT, revoked_at BIGINT);
CREATE TABLE idempotency (
  principal TEXTKEY NOT NULL, key TEXTKEY NOT NULL, request TEXTKEY NOT NULL, response TEXT NOT NULL, created_at BIGINT NOT NULL,
  PRIMARY KEY (principal, key));
CREATE INDEX idempotency_age ON idempotency (created_at);
CREATE TABLE audit (
  seq BIGINT PRIMARY KEY, at BIGINT NOT NULL, actor TEXTKEY NOT NULL, verb TEXTKEY NOT NULL, kind TEXTKEY NOT NULL,
  project TEXTKEY NOT NULL, name TEXTKEY NOT NULL, uid TEXTKEY NOT NULL, before_digest TEXTKEY NOT NULL,
  after_digest TEXTKEY NOT NULL, request TEXTKEY NOT NULL);
CREATE TABLE revisions (
  app TEXTKEY NOT NULL, number BIGINT NOT NULL, template TEXT NOT NULL, pinned TEXT NOT NULL, state TEXTKEY NOT NULL,
  message TEXT NOT NULL, creator TEXTKEY NOT NULL, created_at BIGINT NOT NULL, PRIMARY KEY (app, number));
CREATE TABLE environment_versions (
  environment TEXTKEY NOT NULL, version BIGINT NOT NULL, spec TEXT NOT NULL, phase TEXTKEY NOT NULL, digest TEXTKEY NOT NULL,
  packages TEXT NOT NULL, message TEXT NOT NULL, created_at BIGINT NOT NULL, PRIMARY KEY (environment, version));
CREATE INDEX environment_versions_building ON environment_versions (created_at) WHERE phase = 'Building';
CREATE TABLE secret_versions (
  secret TEXTKEY NOT NULL, version BIGINT NOT NULL, sealed BLOBTYPE NOT NULL, keys TEXT NOT NULL, created_at BIGINT NOT NULL,
  PRIMARY KEY (secret, version));
CREATE TABLE blob_refs (
  project TEXTKEY NOT NULL, digest TEXTKEY NOT NULL, holder TEXTKEY NOT NULL, what TEXTKEY NOT NULL, created_at BIGINT NOT NULL,
  PRIMARY KEY (project, digest, holder, what));
CREATE INDEX blob_refs_holder ON blob_refs (holder);
CREATE TABLE blobs (
  project TEXTKEY NOT NULL, digest TEXTKEY NOT NULL, size BIGINT NOT NULL, state TEXTKEY NOT NULL, used_at BIGINT NOT NULL,
  PRIMARY KEY (project, digest));
CREATE INDEX blobs_age ON blobs (state, used_at);
CREATE TABLE deliveries (job TEXTKEY PRIMARY KEY);
CREATE TABLE settings (name TEXTKEY PRIMARY KEY, value TEXT NOT NULL);
