//! What the database says and its surroundings contradict: capacity given away twice, content that is not in the store,
//! Secrets that the key does not open. `db::check` has what can be seen in the database alone.

use crate::control::convert;
use crate::program;
use crate::usecase::seal;
use api::app::Revised;
use api::job::JobSpec;
use api::platform::NodeStatus;
use base::{Digest, Resources, Uid};
use db::check::{Finding, TOLD_MAX, told};
use db::control::Placement;
use db::{Db, DbError, blobs, control, objects, versions};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use store::{Store, TenantPath};

/// Rows read at once.
const PAGE: u32 = 1_000;

/// Every broken rule. What changes while it looks may be told wrongly of placements: on a server that runs, look twice.
pub async fn run(db: &Db, store: &Store, key: &[u8]) -> Result<Vec<Finding>, DbError> {
    let mut findings = Vec::new();
    told(
        &mut findings,
        "node-overcommitted",
        "placements take more than their node has",
        overcommitted(db).await?,
    );
    told(
        &mut findings,
        "content-missing",
        "content that is needed is not in the store",
        missing_content(db, store).await?,
    );
    told(
        &mut findings,
        "secret-sealed",
        "Secrets cannot be opened: they were sealed under another key, or are damaged",
        sealed_otherwise(db, key).await?,
    );
    Ok(findings)
}

async fn overcommitted(db: &Db) -> Result<Vec<String>, DbError> {
    let mut requests = HashMap::new();
    let mut taken: BTreeMap<String, Resources> = BTreeMap::new();
    for placement in control::live_placements(db).await? {
        let key = (placement.owner, placement.group.clone());
        let known = match requests.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(fresh) => fresh.insert(request(db, &placement).await?),
        };
        if let Some(request) = known {
            taken
                .entry(placement.node.clone())
                .or_default()
                .add(request);
        }
    }
    let mut rows = Vec::new();
    for (name, taken) in taken {
        let Some(node) = objects::read(db, "Node", "", &name).await? else {
            continue;
        };
        let status: NodeStatus = serde_json::from_value(node.status).unwrap_or_default();
        let (cpu, memory) = (
            status.allocatable.cpu.unwrap_or_default(),
            status.allocatable.memory.unwrap_or_default(),
        );
        if taken.cpu > cpu || taken.memory > memory {
            rows.push(format!(
                "{name} has cpu {cpu}, memory {memory}; taken are cpu {}, memory {}",
                taken.cpu, taken.memory
            ));
        }
    }
    Ok(rows)
}

/// What a placement takes; `None` where its owner cannot be read, which another rule tells.
async fn request(db: &Db, placement: &Placement) -> Result<Option<Resources>, DbError> {
    let Some(owner) = objects::read_by_uid(db, placement.owner).await? else {
        return Ok(None);
    };
    let resources = match owner.kind.as_str() {
        "Job" => serde_json::from_value::<JobSpec>(owner.spec)
            .ok()
            .and_then(|spec| {
                let groups = program::groups(&spec);
                let group = groups.iter().find(|group| group.name == placement.group)?;
                Some(convert::resources(&group.program.resources))
            }),
        _ => {
            let number = placement.group.strip_prefix('r');
            let number: Option<u32> = number.and_then(|number| number.parse().ok());
            let revisions = versions::revisions(db, owner.uid).await?;
            revisions
                .into_iter()
                .find(|revision| Some(revision.number) == number)
                .and_then(|revision| serde_json::from_value::<Revised>(revision.template).ok())
                .map(|revised| convert::resources(&revised.template.program.resources))
        }
    };
    Ok(resources)
}

async fn missing_content(db: &Db, store: &Store) -> Result<Vec<String>, DbError> {
    let mut rows = Vec::new();
    let mut after = (String::new(), String::new());
    loop {
        let page = blobs::held_after(db, (&after.0, &after.1), PAGE).await?;
        for (project, digest) in &page {
            if !content_is_there(store, project, digest).await {
                rows.push(format!("{digest} of project {project}"));
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE as usize && rows.len() < TOLD_MAX => {
                after = last.clone();
            }
            Some(_) | None => return Ok(rows),
        }
    }
}

async fn content_is_there(store: &Store, project: &str, digest: &str) -> bool {
    match (TenantPath::new(project), digest.parse::<Digest>()) {
        (Ok(tenant), Ok(digest)) => store.size(&tenant, &digest).await.is_ok(),
        _ => false,
    }
}

async fn sealed_otherwise(db: &Db, key: &[u8]) -> Result<Vec<String>, DbError> {
    let mut rows = Vec::new();
    for (secret, version) in versions::secrets(db).await? {
        let sealed = versions::secret(db, secret, version).await?;
        let opens = sealed.is_some_and(|sealed| seal::open(key, secret, version, &sealed).is_ok());
        if !opens {
            rows.push(format!("{} version {version}", named(db, secret).await?));
        }
    }
    Ok(rows)
}

async fn named(db: &Db, uid: Uid) -> Result<String, DbError> {
    let object = objects::read_by_uid(db, uid).await?;
    Ok(object.map_or_else(
        || uid.to_string(),
        |object| format!("{}/{}", object.project, object.name),
    ))
}
