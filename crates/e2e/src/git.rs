//! A real git repository on this machine, served over loopback HTTP by git's own `http-backend`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// A repository with two commits on `main`, a tag `v1` on the first, and a submodule.
pub fn repository(dir: &Path) -> [String; 2] {
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .args(args)
            .current_dir(dir)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_AUTHOR_NAME", "a")
            .env("GIT_AUTHOR_EMAIL", "a@example.org")
            .env("GIT_COMMITTER_NAME", "a")
            .env("GIT_COMMITTER_EMAIL", "a@example.org")
            .output()
            .expect("git runs, and the directory is ours");
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout)
            .expect("git runs, and the directory is ours")
            .trim()
            .to_owned()
    };
    git(&["init", "--quiet", "--initial-branch=main", "."]);
    std::fs::create_dir(dir.join("train")).expect("git runs, and the directory is ours");
    std::fs::write(dir.join("train/main.py"), "print(1)\n")
        .expect("git runs, and the directory is ours");
    std::fs::write(dir.join("README"), "one\n").expect("git runs, and the directory is ours");
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "one"]);
    let first = git(&["rev-parse", "HEAD"]);
    git(&["tag", "-a", "v1", "-m", "v1"]);
    std::fs::write(dir.join("train/main.py"), "print(2)\n")
        .expect("git runs, and the directory is ours");
    std::fs::write(
        dir.join(".gitmodules"),
        "[submodule \"sub\"]\n\tpath = sub\n\turl = https://127.0.0.1:1/x\n",
    )
    .expect("git runs, and the directory is ours");
    git(&[
        "update-index",
        "--add",
        "--cacheinfo",
        &format!("160000,{first},sub"),
    ]);
    git(&["add", ".gitmodules", "train"]);
    git(&["commit", "--quiet", "-m", "two"]);
    let second = git(&["rev-parse", "HEAD"]);
    git(&["checkout", "--quiet", "-b", "side"]);
    [first, second]
}

/// Serves repositories below a directory, as a web server does: one CGI process a request.
pub struct GitServer {
    url: String,
    _dir: tempfile::TempDir,
    commits: [String; 2],
}

impl GitServer {
    /// With a password, requests without it get 401; with `to`, everything is redirected there.
    pub fn start(password: Option<&str>, to: Option<&str>) -> GitServer {
        let dir = tempfile::tempdir().expect("git runs, and the directory is ours");
        std::fs::create_dir(dir.path().join("repo")).expect("git runs, and the directory is ours");
        let commits = repository(&dir.path().join("repo"));
        let listener =
            TcpListener::bind("127.0.0.1:0").expect("git runs, and the directory is ours");
        let url = format!(
            "http://{}/repo/.git",
            listener
                .local_addr()
                .expect("git runs, and the directory is ours")
        );
        let (root, to) = (dir.path().to_owned(), to.map(str::to_owned));
        let proof = password.map(|password| base64(format!("git:{password}").as_bytes()));
        let shared = Arc::new((root, proof, to));
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let _ = answer(socket, &shared.0, shared.1.as_deref(), shared.2.as_deref());
                });
            }
        });
        GitServer {
            url,
            _dir: dir,
            commits,
        }
    }

    /// Of the repository.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The first and the second commit on `main`.
    pub fn commits(&self) -> &[String; 2] {
        &self.commits
    }
}

fn answer(
    socket: TcpStream,
    root: &Path,
    proof: Option<&str>,
    to: Option<&str>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(socket.try_clone()?);
    let mut socket = socket;
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if let Some(to) = to {
        let rest = path.trim_start_matches("/repo/.git");
        return write!(
            socket,
            "HTTP/1.1 302 Found\r\nLocation: {to}{rest}?{query}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    if proof.is_some_and(|proof| headers.get("authorization") != Some(&format!("Basic {proof}"))) {
        return write!(
            socket,
            "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"git\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let length: usize = headers
        .get("content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut cgi = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", method)
        .env("CONTENT_LENGTH", length.to_string())
        .env(
            "CONTENT_TYPE",
            headers.get("content-type").map_or("", String::as_str),
        )
        .env(
            "HTTP_CONTENT_ENCODING",
            headers.get("content-encoding").map_or("", String::as_str),
        )
        .env(
            "GIT_PROTOCOL",
            headers.get("git-protocol").map_or("", String::as_str),
        )
        .env("REMOTE_ADDR", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    cgi.stdin.take().expect("piped").write_all(&body)?;
    let output = cgi.wait_with_output()?.stdout;
    let head = output
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or(0);
    let text = String::from_utf8_lossy(&output[..head]).into_owned();
    let status = text
        .lines()
        .find_map(|line| line.strip_prefix("Status: "))
        .unwrap_or("200 OK");
    let body = &output[(head + 4).min(output.len())..];
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("Status: "))
        .collect();
    write!(
        socket,
        "HTTP/1.1 {status}\r\n{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        kept.join("\r\n"),
        body.len()
    )?;
    socket.write_all(body)
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - chunk.len()));
        for n in 0..4 {
            let digit = (word >> (18 - 6 * n)) & 63;
            text.push(if n <= chunk.len() {
                char::from(DIGITS[digit as usize])
            } else {
                '='
            });
        }
    }
    text
}
