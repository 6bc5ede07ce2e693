//! Where bytes come from and where they stay: models, outputs, code from git, a bucket.

use e2e::git::GitServer;
use e2e::s3::S3Server;
use e2e::{Installation, eventually, eventually_some};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const SMALL: &str = "resources: {cpu: 10m, memory: 64Mi}";

fn job(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: moonshot/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec: {{{spec}, {SMALL}}}\n"
    )
}

/// Runs a Job to its end; what it printed.
#[track_caller]
fn run(installation: &Installation, name: &str, spec: &str) -> String {
    installation.apply(&job(name, spec));
    let ended = installation.wait_for("job", name, &["Succeeded", "Failed"], PATIENCE);
    let log = installation.run(&["logs", &format!("job/{name}")]).ok();
    assert_eq!(ended["status"]["phase"], "Succeeded", "{log}\n{ended:#}");
    log
}

/// An App that answers with the file `inputs/m/model`.
fn app(model: &str) -> String {
    let program = "import http.server, os, socketserver\nclass S(http.server.ThreadingHTTPServer):\n  server_bind = socketserver.TCPServer.server_bind\nclass H(http.server.BaseHTTPRequestHandler):\n  protocol_version = 'HTTP/1.1'\n  def do_GET(self):\n    body = open(os.environ['MOONSHOT_INPUTS'] + '/m/model', 'rb').read()\n    self.send_response(200)\n    self.send_header('Content-Length', str(len(body)))\n    self.end_headers()\n    self.wfile.write(body)\n  def log_message(self, *args): pass\nS(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()";
    let spec = json!({
        "replicas": 1,
        "rollout": {"drain": "200ms"},
        "route": {"auth": "none"},
        "template": {
            "command": ["python3", "-c", program],
            "inputs": [{"name": "m", "model": model}],
            "resources": {"cpu": "300m", "memory": "128Mi"},
            "ports": [{"name": "http"}],
            "probes": {"readiness": {"http": {"path": "/"}}},
        },
    });
    format!("apiVersion: moonshot/v1\nkind: App\nmetadata: {{name: web}}\nspec: {spec}\n")
}

#[test]
fn a_model_goes_from_a_job_to_an_app_by_way_of_a_bucket() {
    let bucket = S3Server::start("moonshot");
    let dir = tempfile::tempdir().expect("a directory");
    let credentials = dir.path().join("credentials.toml");
    let (id, secret) = e2e::s3::credentials();
    let text = format!("access_key_id = '{id}'\nsecret_access_key = '{secret}'\n");
    std::fs::write(&credentials, text).expect("written");
    std::fs::set_permissions(&credentials, PermissionsExt::from_mode(0o600)).expect("ours");
    let mut installation = Installation::start(&[
        ("MOONSHOT_STORE", "s3://moonshot/site-a"),
        ("MOONSHOT_STORE_ENDPOINT", bucket.endpoint()),
        ("MOONSHOT_STORE_CREDENTIALS", &credentials.to_string_lossy()),
        ("MOONSHOT_CONTENT_GRACE", "10s"),
    ]);
    run(
        &installation,
        "train",
        "command: [sh, -c, 'printf one > $MOONSHOT_OUTPUTS/model'], params: {lr: 0.1}, outputs: [{name: model, path: model}]",
    );
    let say = |args: &[&str]| installation.run(args).ok();
    let pushed = say(&[
        "model",
        "push",
        "flights",
        "job/train:model",
        "--format",
        "text",
        "--metric",
        "rmse=1.5",
    ]);
    assert_eq!(pushed.trim(), "model/flights has version 1");
    // The same again is the same version.
    let again = say(&[
        "model",
        "push",
        "flights",
        "job/train:model",
        "--format",
        "text",
        "--metric",
        "rmse=1.5",
    ]);
    assert_eq!(again, pushed);

    // Downloaded, under its name.
    std::fs::create_dir(installation.home().join("out")).expect("a directory");
    say(&["cp", "job/train:model", "out"]);
    let copied = std::fs::read_to_string(installation.home().join("out/model/model"));
    assert_eq!(copied.expect("it was copied"), "one");

    // As an input of a Job, by the model and by the output itself.
    let cat = "command: [sh, -c, 'cat $MOONSHOT_INPUTS/m/model; echo']";
    let by_model = run(
        &installation,
        "reads",
        &format!("{cat}, inputs: [{{name: m, model: flights}}]"),
    );
    assert_eq!(by_model.trim(), "one");
    let by_output = run(
        &installation,
        "reads-output",
        &format!("{cat}, inputs: [{{name: m, job: {{name: train, output: model}}}}]"),
    );
    assert_eq!(by_output.trim(), "one");
    let unknown = job(
        "x",
        &format!("{cat}, inputs: [{{name: m, job: {{name: train, output: wrong}}}}]"),
    );
    let refused = installation.run_with_input(&["apply", "-f", "-"], &unknown);
    assert!(
        refused.code != 0 && refused.stderr.contains("left: model"),
        "{refused:?}"
    );

    // An App serves it; a version from a file of this machine is another Revision.
    installation.apply(&app("flights@1"));
    installation.wait_for("app", "web", &["Ready"], PATIENCE);
    let answer = || installation.ask("GET", "/default/web/", "", false);
    eventually("version 1 is served", PATIENCE, || {
        answer() == (200, "one".to_owned())
    });
    std::fs::write(installation.home().join("model"), "two").expect("written");
    assert_eq!(
        say(&["model", "push", "flights", "./model"]).trim(),
        "model/flights has version 2"
    );
    let unchanged = installation.apply(&app("flights@1"));
    assert!(unchanged.contains("unchanged"), "{unchanged}");
    installation.apply(&app("flights@2"));
    eventually("version 2 is served", PATIENCE, || {
        answer() == (200, "two".to_owned())
    });
    let history = say(&["rollout", "history", "app/web"]);
    assert!(history.lines().count() >= 3, "{history}");

    let listed = say(&["model", "ls", "flights"]);
    assert!(
        listed.contains("flights-v1") && listed.contains("flights-v2"),
        "{listed}"
    );
    let difference = say(&["model", "diff", "flights@1", "flights@2"]);
    assert!(
        difference.contains("spec.lineage.job") && difference.contains("spec.digest"),
        "{difference}"
    );
    let described = say(&["describe", "modelversion", "flights-v1"]);
    for word in ["train", "rmse: 1.5", "lr: 0.1", "format: text"] {
        assert!(described.contains(word), "{word}: {described}");
    }
    eventually("the project says what it keeps", PATIENCE, || {
        let project = installation.get("project", "default").expect("it is there");
        project["status"]["stored"]
            .as_str()
            .is_some_and(|stored| stored != "0")
    });
    let project = say(&["describe", "project", "default"]);
    assert!(
        project.contains("Stored:") && project.contains("of 100Gi"),
        "{project}"
    );

    // Another server finds everything in the bucket, also without what it had fetched.
    installation.kill_server();
    std::fs::remove_dir_all(installation.data().join("store"))
        .expect("only fetched content is here");
    installation.start_server();
    let fetched = run(
        &installation,
        "reads-again",
        &format!("{cat}, inputs: [{{name: m, model: flights@1}}]"),
    );
    assert_eq!(fetched.trim(), "one");

    // What nobody needs any more goes from the bucket; what the App has pinned stays, also without its Model.
    let say = |args: &[&str]| installation.run(args).ok();
    say(&["model", "rm", "flights"]);
    for name in ["train", "reads", "reads-output", "reads-again"] {
        say(&["delete", "job", name]);
    }
    eventually(
        "version 1 is still needed by Revision 1, version 2 by Revision 2",
        PATIENCE,
        || bucket.objects() == 2,
    );
    say(&["delete", "app", "web"]);
    eventually("the bucket is empty", PATIENCE, || bucket.objects() == 0);
    let log = installation.server_log();
    assert!(!log.contains(&secret), "the secret is in the server's log");
}

#[test]
fn code_comes_from_a_commit_of_a_git_repository() {
    let public = GitServer::start(None, None);
    let private = GitServer::start(Some("hush-hush"), None);
    let installation = Installation::start(&[]);
    let [first, second] = public.commits();
    let code = |url: &str, more: &str| {
        format!("command: [python3, train/main.py], code: {{git: {{url: '{url}'{more}}}}}")
    };
    assert_eq!(
        run(&installation, "newest", &code(public.url(), "")).trim(),
        "2"
    );
    assert_eq!(
        run(&installation, "tagged", &code(public.url(), ", ref: v1")).trim(),
        "1"
    );
    let part = "command: [python3, main.py], code: {git: {url: 'U', path: train}}"
        .replace('U', public.url());
    assert_eq!(run(&installation, "part", &part).trim(), "2");
    let events = installation.run(&["events", "job/tagged"]).ok();
    assert!(events.contains(first), "{events}");
    let events = installation.run(&["events", "job/newest"]).ok();
    assert!(events.contains(second), "{events}");

    // What cannot be had is told by its field, and leaves no Job.
    let refused = |spec: &str| {
        let output = installation.run_with_input(&["apply", "-f", "-"], &job("refused", spec));
        assert_ne!(output.code, 0, "{}", output.stdout);
        assert_eq!(installation.get("job", "refused"), None);
        output.stderr
    };
    let nope = refused(&code(public.url(), ", ref: nope"));
    assert!(nope.contains("code.git") && nope.contains("nope"), "{nope}");
    let here = refused("command: ['true'], code: {git: {url: 'file:///etc'}}");
    assert!(here.contains("is not a repository's URL"), "{here}");
    let no_secret = refused(&code(private.url(), ""));
    assert!(no_secret.contains("code.git.url"), "{no_secret}");

    installation
        .run(&[
            "secret",
            "create",
            "deploy",
            "--from-literal",
            "password=hush-hush",
        ])
        .ok();
    let with_secret = code(private.url(), ", secret: deploy");
    assert_eq!(run(&installation, "private", &with_secret).trim(), "2");
    let log = installation.server_log();
    let everything: Value = installation
        .run(&["get", "job", "private", "-o", "json"])
        .json();
    assert!(!log.contains("hush-hush") && !everything.to_string().contains("hush-hush"));

    // The same file again changes nothing, though the repository is asked no more.
    drop(public);
    let unchanged = installation.apply(&job("part", &part));
    assert!(unchanged.contains("unchanged"), "{unchanged}");
}

#[test]
fn what_is_uploaded_is_bounded_and_shows_its_way() {
    let installation = Installation::start(&[]);
    let code = installation.home().join("code");
    std::fs::create_dir_all(code.join("data")).expect("a directory");
    std::fs::write(code.join(".moonshotignore"), "data/\n").expect("a file");
    std::fs::write(code.join("main.sh"), "ls -A\n").expect("a file");
    // Ignored: it would be over the bound.
    let large = std::fs::File::create(code.join("data/large.bin")).expect("a file");
    large.set_len(600 << 20).expect("sparse");
    let run = |name: &str| {
        let args = ["run", "--name", name, "--", "sh", "main.sh"];
        let output = installation
            .command(&args)
            .current_dir(&code)
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (
            output.status.success(),
            text + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (good, text) = run("ignores");
    assert!(
        good && text.contains("main.sh") && !text.contains("data"),
        "{text}"
    );
    std::fs::remove_file(code.join(".moonshotignore")).expect("it is there");
    let (good, text) = run("too-large");
    assert!(
        !good && text.contains("at most 512 MiB") && text.contains("`data/large.bin`"),
        "{text}"
    );
    assert_eq!(installation.get("job", "too-large"), None);

    // On a terminal the upload has a bar.
    std::fs::remove_file(code.join("data/large.bin")).expect("it is there");
    let mut dice = 1_u64;
    let noise: Vec<u8> = (0..24_000_000)
        .map(|_| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (dice >> 56) as u8
        })
        .collect();
    std::fs::write(code.join("noise.bin"), noise).expect("a file");
    let moonshot = e2e::installation::moonshot();
    let line = format!(
        "stty cols 100; '{}' run --name shows --detach -- true",
        moonshot.display()
    );
    let mut plain = installation.command(&[]);
    plain.current_dir(&code);
    let mut terminal = std::process::Command::new("script");
    terminal
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .current_dir(&code)
        .env_clear()
        .envs(
            plain
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("TERM", "xterm");
    let output = terminal
        .stdin(std::process::Stdio::null())
        .output()
        .expect("util-linux is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("uploading the code") && text.contains("MiB/"),
        "{text}"
    );
}

#[test]
fn an_environment_that_cannot_be_built_says_why_and_leaves_nothing() {
    let installation = Installation::start(&[]);
    let environment = |name: &str, pip: &str| {
        installation.apply(&format!(
            "apiVersion: moonshot/v1\nkind: Environment\nmetadata: {{name: {name}}}\nspec: {{pip: {pip}}}\n"
        ));
    };
    environment("torn", "['six==1.16.0', 'six==1.15.0']");
    let torn = installation.wait_for("environment", "torn", &["Failed"], 2 * PATIENCE);
    let message = torn["status"]["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("six==1.16.0") && message.contains("unsatisfiable"),
        "{message}"
    );
    // Whoever uses it is told, and fails for good.
    installation.apply(&job("uses", "command: ['true'], environment: torn"));
    let uses = eventually_some("the Job is told", PATIENCE, || {
        let job = installation.get("job", "uses")?;
        (job["status"]["phase"] == "Failed").then_some(job)
    });
    let message = uses["status"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("environment `torn`"), "{uses:#}");
    let environments = installation.data().join("environments");
    let built = || -> Vec<String> {
        let entries = std::fs::read_dir(&environments)
            .into_iter()
            .flatten()
            .flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name != ".uv").collect()
    };
    assert_eq!(built(), Vec::<String>::new());

    // Two Environments that mean the same, wanted by two Jobs at once, are one directory.
    environment("one", "['six==1.16.0']");
    environment("two", "['six==1.16.0']");
    let spec = |name: &str| {
        format!("command: [python3, -c, 'import six; print(six.__version__)'], environment: {name}")
    };
    installation.apply(&(job("a", &spec("one")) + "---\n" + &job("b", &spec("two"))));
    for name in ["a", "b"] {
        installation.wait_for("job", name, &["Succeeded"], 2 * PATIENCE);
        let log = installation.run(&["logs", &format!("job/{name}")]).ok();
        assert_eq!(log.trim(), "1.16.0");
    }
    assert_eq!(built().len(), 1, "{:?}", built());
}
