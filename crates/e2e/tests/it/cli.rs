//! What the command line says to bad input: which place is wrong, what was meant, what to do next.

use e2e::Installation;

/// Runs a command line and compares the exit code and the whole of standard error.
#[track_caller]
fn refused(installation: &Installation, line: &str, code: i32, says: &str) {
    let args: Vec<&str> = line.split(' ').collect();
    let output = installation.run(&args);
    assert_eq!(
        (output.code, output.stderr.trim_end()),
        (code, says),
        "moonshot {line}"
    );
}

#[test]
fn manifests_that_are_wrong_are_refused_with_their_place() {
    let installation = Installation::start(&[]);
    let write = |name: &str, text: &str| {
        std::fs::write(installation.home().join(name), text).expect("the directory is ours");
    };
    let head = "apiVersion: moonshot/v1\nkind: Job\nmetadata: {name: a}\n";
    write(
        "kind.yaml",
        "apiVersion: moonshot/v1\nkind: Jbo\nmetadata: {name: a}\nspec: {}\n",
    );
    refused(
        &installation,
        "apply -f kind.yaml",
        7,
        "error: kind.yaml: line 2, column 1: kind: unknown kind `Jbo`; did you mean `Job`?",
    );
    write("field.yaml", &format!("{head}spec:\n  comand: [x]\n"));
    refused(
        &installation,
        "apply -f field.yaml",
        7,
        "error: field.yaml: 2 errors\n  \
         line 4, column 1: spec.command: is missing; write the program and its arguments, also for an image: its ENTRYPOINT is not read\n  \
         line 5, column 3: spec.comand: unknown field; did you mean `command`?",
    );
    // Where the code is uploaded first, the server sees another text; the place is still that of the file.
    std::fs::create_dir(installation.home().join("code")).expect("the directory is ours");
    write(
        "app.yaml",
        "apiVersion: moonshot/v1\nkind: App\nmetadata: {name: a}\nspec:\n  template:\n    command: [x]\n    code: {dir: code}\n    ports: [{name: http}]\n  rollout:\n    readyWithin: 10s\n",
    );
    refused(
        &installation,
        "apply -f app.yaml",
        7,
        "error: app.yaml: line 10, column 5: spec.rollout.readyWithin: unknown field; there are `maxSurge`, `maxUnavailable`, `progressDeadline`, `drain`, `stepBack`, `history`",
    );
    write("yaml.yaml", "a: [1, 2\nb: 3\n");
    let output = installation.run(&["apply", "-f", "yaml.yaml"]);
    assert_eq!(output.code, 7, "{output:?}");
    let place = "error: yaml.yaml: this is not valid YAML in line 2, column 2: ";
    assert!(output.stderr.starts_with(place), "{output:?}");
    write(
        "large.yaml",
        &format!("{head}spec: {{command: [x]}}\n# {}\n", "x".repeat(5 << 20)),
    );
    let output = installation.run(&["apply", "-f", "large.yaml"]);
    assert_eq!(output.code, 7, "{output:?}");
    assert!(output.stderr.contains("at most 4 MiB"), "{output:?}");
    write("alias.yaml", &bomb());
    assert_eq!(installation.run(&["apply", "-f", "alias.yaml"]).code, 7);
    refused(
        &installation,
        "apply -f nothing.yaml",
        3,
        "error: there is no file `nothing.yaml`",
    );
    refused(
        &installation,
        "apply -f code",
        3,
        "error: there is no `.yaml`, `.yml` or `.json` file in `code`",
    );
    let jobs = installation.run(&["get", "jobs", "-o", "name"]).ok();
    assert_eq!(jobs, "", "nothing of it was made");
}

/// A few lines that would be gigabytes when written out.
fn bomb() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let before = n - 1;
        let aliases = vec![format!("*a{before}"); 9].join(", ");
        text.push_str(&format!("a{n}: &a{n} [{aliases}]\n"));
    }
    text
}

#[test]
fn what_is_not_there_is_named_with_what_was_meant() {
    let installation = Installation::start(&[]);
    for (line, code, says) in [
        (
            "get jbos",
            2,
            "error: there is no kind `jbos`; did you mean `jobs`? (`moonshot api-resources` lists them)",
        ),
        (
            "get job nothing",
            3,
            "error: there is no job `nothing` in project `default`",
        ),
        (
            "explain job.spec.comand",
            3,
            "error: `Job.spec` has no field `comand`; did you mean `command`?",
        ),
        (
            "get jobs -l a=b=c",
            2,
            "error: the label selector is wrong at character 4: `,` is expected; write for example `app=flights,tier in (a, b),!old`",
        ),
        (
            "logs job/nothing",
            3,
            "error: there is no job `nothing` in project `default`",
        ),
        (
            "predict app/nothing",
            3,
            "error: there is no app `nothing` in project `default`",
        ),
        (
            "get jobs --project nothing",
            0,
            "there are no jobs in project `nothing`",
        ),
    ] {
        refused(&installation, line, code, says);
    }
    let output = installation.run(&["aply", "-f", "x"]);
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.stderr.contains("'apply'"), "{output:?}");
}

#[test]
fn a_server_that_is_away_and_a_wrong_token_say_what_to_do() {
    let mut installation = Installation::start(&[]);
    let wrong = installation.home().join("wrong.token");
    std::fs::write(&wrong, "wrong\n").expect("the directory is ours");
    let wrong = wrong.display().to_string();
    let output = installation.run(&["get", "jobs", "--token-file", &wrong]);
    assert_eq!(output.code, 5, "{output:?}");
    assert!(
        output.stderr.contains("`moonshot token show`"),
        "{output:?}"
    );
    assert!(
        !output.stderr.contains("wrong\n"),
        "a token is never repeated"
    );
    let output = installation.run(&["get", "jobs", "--token-file", "nowhere.token"]);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("`nowhere.token`"), "{output:?}");
    // The token that is shown is the one that works.
    let token = installation.run(&["token", "show"]).ok();
    let kept = std::fs::read_to_string(installation.data().join("admin.token")).expect("a token");
    assert_eq!(token.trim(), kept.trim());
    installation.kill_server();
    let output = installation.run(&["get", "jobs"]);
    assert_eq!(output.code, 6, "{output:?}");
    assert!(
        output.stderr.contains("`moonshot up` starts one here"),
        "{output:?}"
    );
    installation.start_server();
}

#[test]
fn help_completions_and_explanations_need_no_server() {
    let installation = Installation::start(&[]);
    let offline = |line: &str| {
        let args: Vec<&str> = line.split(' ').collect();
        let output = installation
            .command(&args)
            .env("MOONSHOT_SERVER", "http://127.0.0.1:1")
            .output()
            .expect("moonshot starts");
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let rows = offline("api-resources");
    assert!(rows.contains("environments"), "{rows}");
    assert!(offline("explain job.spec.retry").contains("backoff"));
    assert!(
        offline("docs cli").contains("| 124 |"),
        "exit codes are told"
    );
    // A shell must be able to read what it is to complete by.
    let bash = offline("completion bash");
    installation.shell_input("bash -n", &bash).ok();
    for shell in ["zsh", "fish"] {
        assert!(offline(&format!("completion {shell}")).contains("moonshot"));
    }
}
