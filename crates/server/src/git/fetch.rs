//! One repository: from a reference to a commit's files.

use super::run::{GitError, Run};
use api::common::GitSource;

/// Fetches the reference's commit and writes its files (of `path` alone, if there is one) into [`Run::files`]; the
/// commit's full hash.
pub(super) async fn fetch(run: &Run<'_>, source: &GitSource) -> Result<String, GitError> {
    run.git(&["init", "--quiet", "--template="]).await?;
    let reference = source.ref_.as_deref().unwrap_or("HEAD");
    let one = [
        "fetch",
        "--quiet",
        "--depth=1",
        "--no-tags",
        "--no-recurse-submodules",
        "--",
        &source.url,
        reference,
    ];
    let name = match run.git(&one).await {
        Ok(_) => "FETCH_HEAD".to_owned(),
        // Not every server gives a commit that no branch or tag points to: then the branches are searched.
        Err(GitError::Refused(_)) if is_hash(reference) => {
            let all = [
                "fetch",
                "--quiet",
                "--no-recurse-submodules",
                "--",
                &source.url,
                "+refs/heads/*:refs/heads/*",
                "+refs/tags/*:refs/tags/*",
            ];
            run.git(&all).await?;
            reference.to_owned()
        }
        Err(error) => return Err(error),
    };
    let commit = run
        .git(&[
            "rev-parse",
            "--quiet",
            "--verify",
            &format!("{name}^{{commit}}"),
        ])
        .await
        .map_err(|error| match error {
            GitError::Refused(_) => GitError::NoSuchCommit,
            error => error,
        })?;
    let commit = commit.trim().to_owned();
    let tree = match source.path.as_deref().map(|path| path.trim_matches('/')) {
        None | Some("" | ".") => commit.clone(),
        Some(path) => {
            let tree = format!("{commit}:{}", path.trim_start_matches("./"));
            let kind = run.git(&["cat-file", "-t", &tree]).await;
            if kind.as_deref().map(str::trim) != Ok("tree") {
                return Err(GitError::NoSuchPath);
            }
            tree
        }
    };
    run.git(&["read-tree", &tree]).await?;
    run.git(&["checkout-index", "--all", "--force", "--quiet"])
        .await?;
    Ok(commit)
}

/// Whether the reference is there, as far as that can be seen without fetching.
pub(super) async fn look(run: &Run<'_>, source: &GitSource) -> Result<(), GitError> {
    let reference = source.ref_.as_deref().unwrap_or("HEAD");
    let listed = run
        .git(&["ls-remote", "--quiet", "--", &source.url, reference])
        .await?;
    if listed.trim().is_empty() && !is_hash(reference) {
        return Err(GitError::NoSuchCommit);
    }
    Ok(())
}

fn is_hash(reference: &str) -> bool {
    (7..=64).contains(&reference.len()) && reference.bytes().all(|byte| byte.is_ascii_hexdigit())
}
