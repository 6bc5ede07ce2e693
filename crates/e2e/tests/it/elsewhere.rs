//! Apps whose model is fetched from elsewhere: a bucket of an S3 service, a web server with TLS, the server's own disk.

use crate::model_app::{LIGHTGBM, PATIENCE, XGBOOST, app, comes_to_say, golden};
use e2e::s3::S3Server;
use e2e::{Installation, eventually};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What the command line says to an App that cannot be.
#[track_caller]
fn refused(installation: &Installation, model: &Value) -> String {
    let output = installation.run_with_input(&["apply", "-f", "-"], &app("no", model, "128Mi"));
    assert_ne!(output.code, 0, "{}", output.stdout);
    output.stderr
}

#[track_caller]
fn secret(installation: &Installation, name: &str, data: &Value) {
    installation.apply(&format!(
        "apiVersion: moonshot/v1\nkind: Secret\nmetadata: {{name: {name}}}\nspec: {{data: {data}}}\n"
    ));
}

#[track_caller]
fn stable(installation: &Installation, name: &str, revision: u64) {
    eventually("the Revision serves alone", PATIENCE, || {
        let object = installation.get("app", name).expect("it is there");
        object["status"]["phase"] == "Ready" && object["status"]["stableRevision"] == revision
    });
}

#[test]
fn a_model_in_a_bucket_is_fetched_once_and_kept() {
    let bucket = S3Server::start("models");
    bucket.put("models/late/1/model.json", &golden("xgboost.json"));
    bucket.put("models/late/flights.txt", &golden("lightgbm.txt"));
    let installation = Installation::start(&[("MOONSHOT_MODEL_SOURCES", bucket.endpoint())]);
    let (id, key) = e2e::s3::credentials();
    let entries =
        json!({"access-key-id": id, "secret-access-key": key, "endpoint": bucket.endpoint()});
    secret(&installation, "bucket", &entries);
    let uri = |path: &str| json!({"uri": format!("s3://{path}"), "secret": "bucket"});

    // All below a path, and one object.
    installation.apply(&app("late", &uri("models/late/1"), "128Mi"));
    installation.apply(&app("flights", &uri("models/late/flights.txt"), "128Mi"));
    stable(&installation, "late", 1);
    stable(&installation, "flights", 1);
    comes_to_say(&installation, "late", "late", XGBOOST);
    comes_to_say(&installation, "flights", "flights", LIGHTGBM);

    // What changes there changes nothing here, and is not needed any more: a Revision for another reason serves the same.
    bucket.put("models/late/1/model.json", b"{}");
    let mut slower = uri("models/late/1");
    slower["timeout"] = json!("2s");
    installation.apply(&app("late", &slower, "128Mi"));
    stable(&installation, "late", 2);
    comes_to_say(&installation, "late", "late", XGBOOST);

    // Mistakes are told by their field, and no secret is.
    let stderr = refused(&installation, &uri("models/nothing"));
    assert!(
        stderr.contains("spec.model.uri") && stderr.contains("there is nothing"),
        "{stderr}"
    );
    let mut unknown = uri("models/late/1");
    unknown["secret"] = json!("buckte");
    let stderr = refused(&installation, &unknown);
    assert!(
        stderr.contains("spec.model.secret") && stderr.contains("`buckte`"),
        "{stderr}"
    );
    let wrong = json!({"access-key-id": id, "secret-access-key": "hush-hush", "endpoint": bucket.endpoint()});
    secret(&installation, "wrong", &wrong);
    let stderr = refused(
        &installation,
        &json!({"uri": "s3://models/late/1", "secret": "wrong"}),
    );
    assert!(stderr.contains("cannot be fetched"), "{stderr}");
    assert!(!stderr.contains("hush-hush"), "{stderr}");
    let inside =
        json!({"access-key-id": id, "secret-access-key": key, "endpoint": "http://127.0.0.1:1"});
    secret(&installation, "inside", &inside);
    let stderr = refused(
        &installation,
        &json!({"uri": "s3://models/late/1", "secret": "inside"}),
    );
    assert!(stderr.contains("MOONSHOT_MODEL_SOURCES"), "{stderr}");
}

/// A web server with a certificate of its own authority; it wants a token for what is below `/private`.
struct Web {
    child: Child,
    port: String,
}

impl Web {
    fn start(dir: &Path) -> Web {
        let script = r#"
import http.server, ssl, sys, os
os.chdir(sys.argv[1])
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith('/private') and self.headers.get('authorization') != 'Bearer let-me-in':
            self.send_error(401, 'who are you')
        elif self.path.startswith('/away'):
            self.send_response(302)
            self.send_header('location', 'http://127.0.0.1:1/model.json')
            self.end_headers()
        else:
            super().do_GET()
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain('../own.pem', '../own.key')
server.socket = tls.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut port = String::new();
        BufReader::new(stdout)
            .read_line(&mut port)
            .expect("it says its port");
        let port = port.trim().to_owned();
        Web { child, port }
    }

    fn uri(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}/{path}", self.port)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority, and its certificate for this machine in `own.pem`.
fn authority(dir: &Path) -> PathBuf {
    let openssl = |args: &str| {
        let made = Command::new("openssl")
            .args(args.split(' '))
            .current_dir(dir)
            .output()
            .expect("openssl starts");
        let stderr = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{stderr}");
    };
    let new = "req -x509 -newkey rsa:2048 -nodes -days 2";
    openssl(&format!(
        "{new} -subj /CN=authority -keyout ca.key -out ca.pem"
    ));
    openssl(&format!(
        "{new} -subj /CN=127.0.0.1 -CA ca.pem -CAkey ca.key -addext subjectAltName=IP:127.0.0.1 \
         -addext basicConstraints=critical,CA:FALSE -keyout own.key -out own.pem"
    ));
    dir.join("ca.pem")
}

#[test]
fn a_model_behind_https_may_be_an_archive_and_need_a_token() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = authority(dir.path());
    let files = dir.path().join("files");
    std::fs::create_dir_all(files.join("private/late")).expect("a directory");
    std::fs::write(files.join("late.json"), golden("xgboost.json")).expect("written");
    std::fs::write(files.join("private/late/model.txt"), golden("lightgbm.txt")).expect("written");
    let packed = Command::new("tar")
        .args(["-czf", "private/late.tar.gz", "-C", "private", "late"])
        .current_dir(&files)
        .status();
    assert!(packed.is_ok_and(|status| status.success()));
    let web = Web::start(&files);
    let installation = Installation::start(&[("SSL_CERT_FILE", &authority.to_string_lossy())]);

    installation.apply(&app(
        "late",
        &json!({"uri": web.uri("late.json?version=7")}),
        "128Mi",
    ));
    stable(&installation, "late", 1);
    comes_to_say(&installation, "late", "late", XGBOOST);

    secret(&installation, "web", &json!({"token": "let-me-in"}));
    let uri = web.uri("private/late.tar.gz");
    let stderr = refused(&installation, &json!({"uri": uri}));
    assert!(stderr.contains("401"), "{stderr}");
    installation.apply(&app("late", &json!({"uri": uri, "secret": "web"}), "128Mi"));
    stable(&installation, "late", 2);
    comes_to_say(&installation, "late", "late", LIGHTGBM);

    for (path, told) in [
        ("nothing.json", "there is nothing"),
        ("away/model.json", "where the server does not fetch from"),
    ] {
        let stderr = refused(&installation, &json!({"uri": web.uri(path)}));
        assert!(
            stderr.contains("spec.model.uri") && stderr.contains(told),
            "{stderr}"
        );
    }
    // A certificate that nobody vouches for.
    let strict = Installation::start(&[]);
    let stderr = refused(&strict, &json!({"uri": web.uri("late.json")}));
    assert!(stderr.to_lowercase().contains("certificate"), "{stderr}");
}

#[test]
fn the_servers_own_files_are_served_only_where_its_settings_say_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let model = dir.path().join("models/late/2");
    std::fs::create_dir_all(&model).expect("a directory");
    std::fs::write(model.join("model.json"), golden("xgboost.json")).expect("written");
    std::fs::write(dir.path().join("other.json"), golden("xgboost.json")).expect("written");
    let link = dir.path().join("models/other.json");
    std::os::unix::fs::symlink(dir.path().join("other.json"), link).expect("a link");
    let place = format!("file://{}", dir.path().join("models").display());
    let installation = Installation::start(&[("MOONSHOT_MODEL_SOURCES", &place)]);

    installation.apply(&app(
        "late",
        &json!({"uri": format!("{place}/late/2")}),
        "128Mi",
    ));
    stable(&installation, "late", 1);
    comes_to_say(&installation, "late", "late", XGBOOST);
    for (uri, told) in [
        (
            format!("file://{}/other.json", dir.path().display()),
            "MOONSHOT_MODEL_SOURCES",
        ),
        (format!("{place}/other.json"), "leads by a link"),
        (format!("{place}/none.json"), "cannot be read"),
    ] {
        let stderr = refused(&installation, &json!({"uri": uri}));
        assert!(
            stderr.contains("spec.model.uri") && stderr.contains(told),
            "{stderr}"
        );
    }
}
