//! What only a bucket can get wrong: signatures, outages, damage on the way, a writer that is killed.

use crate::support::{config, content, digest, read_all};
use base::Code;
use e2e::s3::S3Server;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use store::{S3Config, Store, TenantPath};

/// Tells the test program, started again, to be the writer to this endpoint.
const WRITER: &str = "MOONSHOT_TEST_S3_WRITER";
const ROUNDS: usize = 4;

fn project() -> TenantPath {
    TenantPath::new("p").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_is_refused_and_shown_nowhere() {
    let server = S3Server::start("bucket");
    let local = tempfile::tempdir().unwrap();
    let mut config = config(&server, "");
    config.credentials = Some((server.access_key().to_owned(), "not-the-secret".to_owned()));
    let store = Store::s3(&config, local.path()).unwrap();
    let error = store.check().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    let put = store.put(&project(), &b"x"[..], 1, None).await.unwrap_err();
    for error in [&error, &put] {
        let shown = format!("{error:?}");
        assert!(shown.contains("SignatureDoesNotMatch"), "{shown}");
        assert!(!shown.contains("not-the-secret"), "{shown}");
    }
    assert_eq!(server.objects(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_does_not_exist_or_answer_is_told_when_the_store_is_checked() {
    let server = S3Server::start("bucket");
    let local = tempfile::tempdir().unwrap();
    let other = S3Config {
        bucket: "other".to_owned(),
        ..config(&server, "")
    };
    let store = Store::s3(&other, local.path()).unwrap();
    assert!(store.check().await.is_err());
    let nobody = S3Config {
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        ..config(&server, "")
    };
    let store = Store::s3(&nobody, local.path()).unwrap();
    let error = store.check().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_the_bucket_is_noticed_by_whoever_reads() {
    let server = S3Server::start("bucket");
    let local = tempfile::tempdir().unwrap();
    let store = Store::s3(&config(&server, ""), local.path()).unwrap();
    let bytes = content(3, 100_000);
    let kept = store
        .put(&project(), &bytes[..], u64::MAX, None)
        .await
        .unwrap();
    let file = server.file_of(&kept.digest.hex());
    let mut damaged = std::fs::read(&file).unwrap();
    damaged[50_000] ^= 1;
    std::fs::write(&file, damaged).unwrap();
    let error = read_all(&store, &project(), &kept.digest)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    assert!(store.fetch(&project(), &kept.digest).await.is_err());
    std::fs::write(&file, &bytes).unwrap();
    assert!(store.fetch(&project(), &kept.digest).await.is_ok());
}

#[test]
fn a_killed_writer_leaves_whole_objects_alone() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    };
    if let Ok(settings) = std::env::var(WRITER) {
        let (endpoint, local) = settings.split_once(' ').unwrap();
        let mut config = S3Config::parse("s3://bucket").unwrap();
        config.endpoint = Some(endpoint.to_owned());
        config.credentials = Some(e2e::s3::credentials());
        let store = Store::s3(&config, local.as_ref()).unwrap();
        let mut out = std::io::stdout();
        for n in 0.. {
            // Large ones in several parts, small ones in one request.
            let bytes = content(n, if n % 2 == 0 { 20 << 20 } else { 10_000 });
            let project = project();
            let put = store.put(&project, &bytes[..], u64::MAX, None);
            let kept = runtime().block_on(put).unwrap();
            let told = writeln!(out, "kept {}", kept.digest).and_then(|()| out.flush());
            if told.is_err() {
                std::process::exit(0);
            }
        }
    }
    let server = S3Server::start("bucket");
    let local = tempfile::tempdir().unwrap();
    let mut dice = crate::support::Dice::new();
    for round in 0..ROUNDS {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "bucket::a_killed_writer_leaves_whole_objects_alone",
            ])
            .env(
                WRITER,
                format!("{} {}", server.endpoint(), local.path().display()),
            )
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut left = 1 + dice.below(4);
        let mut promised = Vec::new();
        for line in BufReader::new(writer.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(kept) = line.strip_prefix("kept ") {
                promised.push(kept.parse::<base::Digest>().unwrap());
                left -= 1;
            }
            if left == 0 {
                break;
            }
        }
        assert_eq!(left, 0, "round {round}: the writer ended by itself");
        writer.kill().unwrap();
        writer.wait().unwrap();
        runtime().block_on(async {
            let store = Store::s3(&config(&server, ""), local.path()).unwrap();
            assert!(crate::support::files(&local.path().join("drafts")).is_empty());
            for digest in &promised {
                let size = store.size(&project(), digest).await.unwrap();
                assert!(size > 0, "round {round}: {digest} is lost");
            }
            // Whatever is visible is whole.
            for part in 0..=u8::MAX {
                for entry in store.list(&project(), part).await.unwrap() {
                    let bytes = read_all(&store, &project(), &entry.digest).await.unwrap();
                    assert_eq!(digest(&bytes), entry.digest, "round {round}");
                    // The next round writes it anew.
                    store.remove(&project(), &entry.digest).await.unwrap();
                }
            }
        });
    }
}
