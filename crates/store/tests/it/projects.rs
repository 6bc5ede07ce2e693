//! No project's name leads to another project's bytes.

use crate::support::{Dice, digest, files};
use store::{Store, StoreError, TenantPath};

const ROUNDS: usize = 2_000;

/// Names near the edge of what is allowed: separators, dots, case, other alphabets, control characters.
fn name(dice: &mut Dice) -> String {
    let good: Vec<char> = "ab0-".chars().collect();
    let bad: Vec<char> = "./\\ \0A%_~éß:\n".chars().collect();
    let len = 1 + dice.below(8);
    let spoiled = dice.below(2) == 0;
    let pick = |dice: &mut Dice| {
        let from = if spoiled && dice.below(3) == 0 {
            &bad
        } else {
            &good
        };
        from[dice.below(from.len() as u64) as usize]
    };
    (0..len).map(|_| pick(dice)).collect()
}

#[tokio::test]
async fn an_accepted_name_reaches_its_own_directory_alone() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::directory(&root.path().join("store")).unwrap();
    let mut dice = Dice::new();
    let mut accepted = std::collections::BTreeSet::new();
    for _ in 0..ROUNDS {
        let name = name(&mut dice);
        match TenantPath::new(&name) {
            Ok(_) => {
                accepted.insert(name);
            }
            Err(error) => assert!(matches!(error, StoreError::Project { .. }), "{name:?}"),
        }
    }
    assert!(
        accepted.len() > 20,
        "the alphabet makes good names too: {accepted:?}"
    );
    for name in &accepted {
        let project = TenantPath::new(name).unwrap();
        let kept = store
            .put(&project, name.as_bytes(), 100, None)
            .await
            .unwrap();
        let path = store.fetch(&project, &kept.digest).await.unwrap();
        let own = root.path().join("store/projects").join(name);
        assert!(
            path.canonicalize()
                .unwrap()
                .starts_with(own.canonicalize().unwrap()),
            "{name:?}"
        );
    }
    // Each project kept one thing, and no project finds another's.
    assert_eq!(
        files(&root.path().join("store/projects")).len(),
        accepted.len()
    );
    assert_eq!(
        files(root.path()).len(),
        accepted.len(),
        "and nothing lies beside the store"
    );
    for (own, other) in accepted.iter().zip(accepted.iter().skip(1)) {
        let project = TenantPath::new(own).unwrap();
        let foreign = store.size(&project, &digest(other.as_bytes())).await;
        assert!(
            matches!(foreign, Err(StoreError::Missing(_))),
            "{own:?} sees {other:?}"
        );
    }
}
