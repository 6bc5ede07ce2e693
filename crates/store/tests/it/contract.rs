//! What every back end must do, run on a directory and on a bucket of a real S3 server.

use crate::support::{content, digest, read_all};
use base::Code;
use e2e::s3::S3Server;
use std::time::{Duration, SystemTime};
use store::{Store, StoreError, TenantPath, shard};

/// Larger than one part of a multipart upload, and no multiple of it.
const LARGE: usize = (40 << 20) + 12_345;

fn project(name: &str) -> TenantPath {
    TenantPath::new(name).unwrap()
}

async fn suite(store: &Store) {
    let (a, b) = (project("a"), project("b"));
    store.check().await.unwrap();

    // Found by its digest, once, and only by its project.
    let kept = store.put(&a, &b"hello"[..], 10, None).await.unwrap();
    // `printf hello | sha256sum`
    assert_eq!(
        kept.digest.to_string(),
        "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    );
    assert_eq!(kept.size, 5);
    let again = store.put(&a, &b"hello"[..], 10, Some(kept.digest)).await;
    assert_eq!(again.unwrap(), kept);
    assert_eq!(store.size(&a, &kept.digest).await.unwrap(), 5);
    assert_eq!(read_all(store, &a, &kept.digest).await.unwrap(), b"hello");
    let missing = store.size(&b, &kept.digest).await.unwrap_err();
    assert!(matches!(missing, StoreError::Missing(_)), "{missing:?}");
    assert_eq!(missing.code(), Code::NotFound);
    assert!(store.read(&b, &kept.digest).await.is_err());
    assert!(store.fetch(&b, &kept.digest).await.is_err());

    // As a file of this machine, twice.
    for _ in 0..2 {
        let file = store.fetch(&a, &kept.digest).await.unwrap();
        assert_eq!(std::fs::read(file).unwrap(), b"hello");
    }

    // Nothing at all is content too.
    let empty = store.put(&a, &b""[..], 0, None).await.unwrap();
    assert!(read_all(store, &a, &empty.digest).await.unwrap().is_empty());

    // Large content comes back whole, also through a file.
    let large = content(7, LARGE);
    let wanted = digest(&large);
    let put = store.put(&a, &large[..], LARGE as u64, Some(wanted)).await;
    assert_eq!(put.unwrap().digest, wanted);
    assert!(read_all(store, &a, &wanted).await.unwrap() == large);
    let file = store.fetch(&a, &wanted).await.unwrap();
    assert!(std::fs::read(file).unwrap() == large);

    // What is refused leaves nothing.
    let refused = store.put(&a, &b"too large"[..], 4, None).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooLarge { limit: 4 }));
    let refused = store.put(&a, &b"other"[..], 9, Some(wanted)).await;
    assert!(matches!(refused, Err(StoreError::Differs { .. })));
    assert!(store.size(&a, &digest(b"other")).await.is_err());
    assert!(store.size(&a, &digest(b"too large")).await.is_err());

    // Listed in its part, with its size and a time.
    let mut listed = store.list(&a, shard(&kept.digest)).await.unwrap();
    listed.retain(|entry| entry.digest == kept.digest);
    let [entry] = listed[..] else {
        panic!("{listed:?}")
    };
    assert_eq!(entry.size, 5);
    let age = SystemTime::now()
        .duration_since(entry.kept_at)
        .unwrap_or_default();
    assert!(age < Duration::from_secs(600), "{age:?}");
    let mut total = 0;
    for part in 0..=u8::MAX {
        let entries = store.list(&a, part).await.unwrap();
        assert!(entries.iter().all(|entry| shard(&entry.digest) == part));
        total += entries.len();
    }
    assert_eq!(total, 3);
    assert!(store.list(&b, 0).await.unwrap().is_empty());

    assert_eq!(store.projects().await.unwrap(), std::slice::from_ref(&a));

    // Removed for good; twice is no error, and it can come again.
    store.remove(&a, &kept.digest).await.unwrap();
    store.remove(&a, &kept.digest).await.unwrap();
    assert!(store.read(&a, &kept.digest).await.is_err());
    store.put(&a, &b"hello"[..], 10, None).await.unwrap();
    assert_eq!(read_all(store, &a, &kept.digest).await.unwrap(), b"hello");

    // Many at once.
    let mut puts = tokio::task::JoinSet::new();
    for n in 0..12_u64 {
        let (store, b) = (store.clone(), b.clone());
        puts.spawn(async move {
            let bytes = content(n % 4, 300_000);
            let kept = store.put(&b, &bytes[..], u64::MAX, None).await.unwrap();
            assert!(read_all(&store, &b, &kept.digest).await.unwrap() == bytes);
        });
    }
    while let Some(put) = puts.join_next().await {
        put.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory() {
    let root = tempfile::tempdir().unwrap();
    suite(&Store::directory(root.path()).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket() {
    let server = S3Server::start("bucket");
    for prefix in ["", "team/a"] {
        let local = tempfile::tempdir().unwrap();
        let store = Store::s3(&crate::support::config(&server, prefix), local.path()).unwrap();
        suite(&store).await;
    }
}
