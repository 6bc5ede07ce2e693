//! Starts that cannot succeed say why, and what to do.

use e2e::Installation;
use std::net::TcpListener;
use std::process::Command;

#[test]
fn a_port_that_is_used_is_told_with_the_setting_that_chooses_another() {
    let installation = Installation::start(&[]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let other = installation.home().join("other");
    for (setting, verb) in [
        ("MOONSHOT_LISTEN", "server"),
        ("MOONSHOT_GATEWAY_LISTEN", "gateway"),
    ] {
        std::fs::create_dir_all(&other).expect("a directory");
        // The gateway waits for the server's first token.
        std::fs::write(other.join("admin.token"), "moon_x").expect("written");
        let output = installation
            .command(&[verb])
            .env("MOONSHOT_DATA_DIR", &other)
            .env(setting, &address)
            .output()
            .expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains(&address) && stderr.contains(setting),
            "{stderr}"
        );
    }
    let second = installation.run(&["server"]);
    assert_eq!(second.code, 1);
    assert!(
        second.stderr.contains("moonshot down") && second.stderr.contains("PostgreSQL"),
        "{}",
        second.stderr
    );
}

#[test]
fn settings_that_are_wrong_are_told_by_line_and_key() {
    let installation = Installation::start(&[]);
    let file = installation.home().join("moonshot.toml");
    std::fs::write(&file, "nodes = 2\nlissten = '127.0.0.1:1'\n").expect("written");
    let check = |name: &str, value: &str| {
        let output = installation
            .command(&["config", "check"])
            .env(name, value)
            .output()
            .expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), stderr)
    };
    let path = file.to_str().expect("a plain path");
    let (code, told) = check("MOONSHOT_CONFIG_FILE", path);
    assert_eq!(code, Some(2), "{told}");
    assert!(
        told.contains("line 2") && told.contains("did you mean `listen`?"),
        "{told}"
    );
    let (code, told) = check("MOONSHOT_LISEN", "127.0.0.1:1");
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("did you mean MOONSHOT_LISTEN?"), "{told}");
    let (code, told) = check("MOONSHOT_LISTEN", "0.0.0.0:7070");
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("TLS"), "{told}");
    let shown = installation.run(&["config", "show"]).ok();
    let listen = shown
        .lines()
        .find(|line| line.starts_with("listen "))
        .expect("a line");
    assert!(
        listen.contains(installation.listen()) && listen.contains("MOONSHOT_LISTEN"),
        "{shown}"
    );
}

/// In a mount namespace of its own, so that nothing has to be taken away afterwards.
#[test]
fn a_full_or_read_only_disk_is_told_at_the_start() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can mount a small disk");
        return;
    }
    let installation = Installation::start(&[]);
    let dir = installation.home().join("disk");
    std::fs::create_dir_all(&dir).expect("a directory");
    let start = |prepare: &str| {
        let script =
            format!("mount -t tmpfs -o size=512k tmpfs \"$1\" && {prepare} && exec \"$2\" server");
        let command = installation.command(&[]);
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script, "sh"])
            .arg(&dir)
            .arg(command.get_program())
            .env_clear()
            .envs(
                command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .env("MOONSHOT_DATA_DIR", &dir)
            .env("MOONSHOT_LISTEN", "127.0.0.1:0")
            .output()
            .expect("unshare runs");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        stderr
    };
    // Room for the small files, none for the database.
    let full = start("mkdir -p \"$1/run\" && head -c 480k /dev/zero > \"$1/filler\"");
    assert!(full.contains("free some space"), "{full}");
    let read_only = start("mount -o remount,ro \"$1\"");
    assert!(
        read_only.to_lowercase().contains("read-only"),
        "{read_only}"
    );
}
