//! Against a real repository, served over loopback HTTP by git's own `http-backend`.

use super::fetch::{fetch, look};
use super::run::{GitError, Run};
use super::*;
use crate::git::credentials::Credentials;
use e2e::git::{GitServer, repository};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

fn source(url: &str, reference: Option<&str>, path: Option<&str>) -> GitSource {
    GitSource {
        url: url.to_owned(),
        ref_: reference.map(str::to_owned),
        path: path.map(str::to_owned),
        secret: None,
    }
}

async fn fetched(
    source: &GitSource,
    credentials: Option<&Credentials>,
) -> Result<(String, Vec<(PathBuf, String)>), GitError> {
    let scratch = tempfile::tempdir().unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let run = Run::new(scratch.path(), &source.url, credentials, deadline)?;
    let commit = fetch(&run, source).await?;
    let mut files = Vec::new();
    collect(&run.files(), &run.files(), &mut files);
    files.sort();
    Ok((commit, files))
}

fn collect(base: &Path, dir: &Path, files: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            collect(base, &entry.path(), files);
        } else {
            let path = entry.path().strip_prefix(base).unwrap().to_owned();
            files.push((path, std::fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn references_become_commits_and_files() {
    let served = GitServer::start(None, None);
    let [first, second] = served.commits();
    let check = async |reference: Option<&str>, commit: &str, main: &str| {
        let (found, files) = fetched(&source(served.url(), reference, None), None)
            .await
            .unwrap();
        assert_eq!(found, commit, "{reference:?}");
        let wanted = (PathBuf::from("train/main.py"), main.to_owned());
        assert!(files.contains(&wanted), "{reference:?}: {files:?}");
        // The submodule is not looked at, and git's own files are not among the code.
        assert!(
            files
                .iter()
                .all(|(path, _)| !path.starts_with("sub") && !path.starts_with(".git"))
        );
    };
    check(None, second, "print(2)\n").await;
    check(Some("main"), second, "print(2)\n").await;
    check(Some("v1"), first, "print(1)\n").await;
    // By full and by short hash, also of a commit that no branch ends at.
    check(Some(first), first, "print(1)\n").await;
    check(Some(&first[..10]), first, "print(1)\n").await;

    let part = source(served.url(), None, Some("train"));
    let (_, files) = fetched(&part, None).await.unwrap();
    assert_eq!(files, [(PathBuf::from("main.py"), "print(2)\n".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told() {
    let served = GitServer::start(None, None);
    let no_path = fetched(&source(served.url(), None, Some("README")), None).await;
    assert_eq!(no_path.unwrap_err(), GitError::NoSuchPath);
    let no_hash = fetched(&source(served.url(), Some("0123456789"), None), None).await;
    assert_eq!(no_hash.unwrap_err(), GitError::NoSuchCommit);
    let no_branch = fetched(&source(served.url(), Some("nope"), None), None).await;
    let error = no_branch.unwrap_err().to_string();
    assert!(error.contains("nope"), "{error}");
    let scratch = tempfile::tempdir().unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let nope = source(served.url(), Some("nope"), None);
    let run = Run::new(scratch.path(), &nope.url, None, deadline).unwrap();
    assert_eq!(look(&run, &nope).await.unwrap_err(), GitError::NoSuchCommit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_used_and_not_told() {
    let served = GitServer::start(Some("hush-hush"), None);
    let password = |password: &str| Credentials::Password {
        username: "git".to_owned(),
        password: password.to_owned(),
    };
    let private = source(served.url(), None, None);
    fetched(&private, Some(&password("hush-hush")))
        .await
        .unwrap();
    for credentials in [None, Some(password("wrong-word"))] {
        let refused = fetched(&private, credentials.as_ref()).await.unwrap_err();
        let GitError::Refused(words) = refused else {
            panic!("{refused:?}")
        };
        assert!(
            !words.contains("wrong-word") && !words.is_empty(),
            "{words}"
        );
    }
    // A redirect does not take it elsewhere.
    let elsewhere = GitServer::start(None, Some(served.url()));
    let moved = source(elsewhere.url(), None, None);
    let refused = fetched(&moved, Some(&password("hush-hush"))).await;
    assert!(matches!(refused, Err(GitError::Refused(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_this_machine_can_be_reached() {
    let dir = tempfile::tempdir().unwrap();
    repository(dir.path());
    let proof = dir.path().join("ran");
    let path = dir.path().display();
    for url in [
        format!("file://{path}"),
        path.to_string(),
        format!("ext::sh -c touch% {}", proof.display()),
        format!("--upload-pack=touch {}", proof.display()),
        "ssh://-oProxyCommand=touch/x".to_owned(),
    ] {
        let refused = fetched(&source(&url, None, None), None).await;
        assert!(
            matches!(refused, Err(GitError::Refused(_))),
            "{url}: {refused:?}"
        );
    }
    assert!(!proof.exists());
    // Not by a redirect either.
    let served = GitServer::start(None, Some(&format!("file://{path}")));
    let refused = fetched(&source(served.url(), None, None), None).await;
    assert!(matches!(refused, Err(GitError::Refused(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/repo", listener.local_addr().unwrap());
    let scratch = tempfile::tempdir().unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_millis(300);
    let run = Run::new(scratch.path(), &url, None, deadline).unwrap();
    let refused = fetch(&run, &source(&url, None, None)).await.unwrap_err();
    assert_eq!(refused, GitError::Timeout);
}
