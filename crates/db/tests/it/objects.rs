//! Objects: what is stored comes back, names are unique, order is by bytes, pages tell of more.

use crate::both::{Place, START, both, insert, object, with};
use base::{Generation, Seq, Time};
use db::objects::{self, Filter, LabelMatch};
use serde_json::json;

both!(
    what_is_stored_comes_back,
    a_name_is_taken_once_among_current_objects,
    names_are_ordered_by_bytes,
    pages_are_newest_first_and_say_whether_more_follow,
    labels_select,
    pages_by_label_are_in_order,
    a_status_that_is_the_same_changes_nothing,
    a_removed_object_leaves_nothing,
);

async fn what_is_stored_comes_back(place: Place) {
    let db = place.open().await;
    let mut one = object("one");
    one.labels = [("team".to_owned(), "vision".to_owned())].into();
    one.annotations = [("note".to_owned(), "it's \"quoted\" \\ and\nlong".to_owned())].into();
    one.seq = insert(&db, one.clone()).await.unwrap();
    assert_eq!(
        objects::read_by_uid(&db, one.uid).await.unwrap(),
        Some(one.clone())
    );
    place.pass(5);
    one.generation = Generation(2);
    one.spec = json!({"command": ["false"]});
    one.deleted_at = Some(Time::from_ms(START + 5));
    one.labels = [("team".to_owned(), "speech".to_owned())].into();
    let seq = with(&db, one.clone(), |tx, one| {
        Box::pin(async move { objects::update(tx, &one).await })
    })
    .await
    .unwrap();
    assert_eq!(seq, Seq(2));
    one.seq = seq;
    one.updated_at = Time::from_ms(START + 5);
    assert_eq!(
        objects::read(&db, "Job", "default", "one").await.unwrap(),
        Some(one)
    );
    assert_eq!(
        objects::read(&db, "App", "default", "one").await.unwrap(),
        None
    );
}

async fn a_name_is_taken_once_among_current_objects(place: Place) {
    let db = place.open().await;
    let mut first = object("same");
    insert(&db, first.clone()).await.unwrap();
    let error = insert(&db, object("same")).await.unwrap_err();
    assert!(error.is_duplicate(), "{error:?}");
    let mut elsewhere = object("same");
    elsewhere.project = "other".to_owned();
    insert(&db, elsewhere).await.unwrap();
    first.is_current = false;
    first.finished_at = Some(Time::from_ms(START));
    with(&db, first.clone(), |tx, first| {
        Box::pin(async move { objects::update(tx, &first).await })
    })
    .await
    .unwrap();
    let second = object("same");
    insert(&db, second.clone()).await.unwrap();
    let found = objects::read(&db, "Job", "default", "same")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.uid, second.uid);
    assert!(
        objects::read_by_uid(&db, first.uid)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(
        db::feed::head(&db).await.unwrap(),
        Seq(4),
        "the refused insert left no entry"
    );
}

async fn names_are_ordered_by_bytes(place: Place) {
    let db = place.open().await;
    // In `en-US` this is: _x, a, a-b, aa, a-c, b, B, ö, z.
    let names = ["b", "B", "a-c", "aa", "a-b", "_x", "ö", "z", "a"];
    for name in names {
        insert(&db, object(name)).await.unwrap();
    }
    let mut expected = names.map(str::to_owned);
    expected.sort();
    let found: Vec<String> = objects::all(&db, "Job")
        .await
        .unwrap()
        .into_iter()
        .map(|o| o.name)
        .collect();
    assert_eq!(found, expected);
}

async fn pages_are_newest_first_and_say_whether_more_follow(place: Place) {
    let db = place.open().await;
    let mut uids = Vec::new();
    for n in 0..7 {
        let mut object = object(&format!("j{n}"));
        // Two of each time, so that the uid decides.
        object.created_at = Time::from_ms(START + n / 2);
        uids.push(object.uid);
        insert(&db, object).await.unwrap();
    }
    uids.reverse();
    let mut filter = Filter {
        limit: 3,
        ..Filter::default()
    };
    let (mut seen, mut pages) = (Vec::new(), Vec::new());
    loop {
        let (page, has_more) = objects::list(&db, "Job", &filter).await.unwrap();
        pages.push((page.len(), has_more));
        seen.extend(page.iter().map(|object| object.uid));
        let Some(last) = page.last() else { break };
        filter.after = Some((last.created_at, last.uid));
        if !has_more {
            break;
        }
    }
    assert_eq!(seen, uids);
    assert_eq!(pages, [(3, true), (3, true), (1, false)]);
    filter = Filter {
        limit: 7,
        ..Filter::default()
    };
    assert!(
        !objects::list(&db, "Job", &filter).await.unwrap().1,
        "exactly full is not more"
    );
}

async fn labels_select(place: Place) {
    let db = place.open().await;
    for (name, labels) in [
        ("a", &[("team", "x"), ("tier", "1")][..]),
        ("b", &[("team", "y")]),
        ("c", &[]),
    ] {
        let mut object = object(name);
        object.labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        insert(&db, object).await.unwrap();
    }
    let team = || "team".to_owned();
    let x = || vec!["x".to_owned()];
    for (labels, expected) in [
        (vec![LabelMatch::In(team(), x())], "a"),
        (
            vec![LabelMatch::In(team(), vec!["x".to_owned(), "y".to_owned()])],
            "ba",
        ),
        (vec![LabelMatch::NotIn(team(), x())], "cb"),
        (vec![LabelMatch::Exists(team())], "ba"),
        (vec![LabelMatch::Absent(team())], "c"),
        (
            vec![
                LabelMatch::Exists(team()),
                LabelMatch::Absent("tier".to_owned()),
            ],
            "b",
        ),
    ] {
        let filter = Filter {
            limit: 10,
            labels: labels.clone(),
            project: Some("default".to_owned()),
            phase: Some("Queued".to_owned()),
            after: None,
        };
        let (found, _) = objects::list(&db, "Job", &filter).await.unwrap();
        let names: String = found.into_iter().map(|object| object.name).collect();
        assert_eq!(names, expected, "{labels:?}");
    }
}

async fn pages_by_label_are_in_order(place: Place) {
    let db = place.open().await;
    for n in 0..25_i64 {
        let mut object = object(&format!("j{n}"));
        object.created_at = Time::from_ms(START + n);
        let team = if n % 5 == 4 { "rare" } else { "many" };
        object.labels = [("team".to_owned(), team.to_owned())].into();
        insert(&db, object).await.unwrap();
    }
    let many = LabelMatch::In("team".to_owned(), vec!["many".to_owned()]);
    let both = LabelMatch::In(
        "team".to_owned(),
        vec!["many".to_owned(), "rare".to_owned()],
    );
    let any = LabelMatch::Exists("team".to_owned());
    for (label, project, expect) in [
        (many.clone(), None, 20),
        (many, Some("default".to_owned()), 20),
        (both, None, 25),
        (any, Some("default".to_owned()), 25),
    ] {
        let mut names = Vec::new();
        let mut after = None;
        loop {
            let filter = Filter {
                labels: vec![label.clone()],
                project: project.clone(),
                phase: None,
                after,
                limit: 6,
            };
            let (page, has_more) = objects::list(&db, "Job", &filter).await.unwrap();
            assert!(page.len() == 6 || !has_more);
            after = page.last().map(|last| (last.created_at, last.uid));
            names.extend(page.into_iter().map(|object| object.name));
            if !has_more {
                break;
            }
        }
        let numbers: Vec<u32> = names
            .iter()
            .map(|name| name[1..].parse().unwrap())
            .collect();
        assert!(numbers.is_sorted_by(|a, b| a > b), "{label:?}: {numbers:?}");
        assert_eq!(numbers.len(), expect, "{label:?}");
    }
}

async fn a_status_that_is_the_same_changes_nothing(place: Place) {
    let db = place.open().await;
    let one = object("one");
    insert(&db, one.clone()).await.unwrap();
    let set = |phase: &'static str| {
        with(&db, (one.uid, phase), |tx, (uid, phase)| {
            Box::pin(
                async move { objects::set_status(tx, uid, phase, &json!({"phase": phase})).await },
            )
        })
    };
    assert!(!set("Queued").await.unwrap());
    assert_eq!(db::feed::head(&db).await.unwrap(), Seq(1));
    assert!(set("Running").await.unwrap());
    assert_eq!(db::feed::head(&db).await.unwrap(), Seq(2));
    let phases = objects::phases(&db, "Job").await.unwrap();
    assert_eq!(phases, [("Running".to_owned(), 1)].into());
}

async fn a_removed_object_leaves_nothing(place: Place) {
    let db = place.open().await;
    let mut one = object("one");
    one.labels = [("a".to_owned(), "b".to_owned())].into();
    insert(&db, one.clone()).await.unwrap();
    with(&db, one.clone(), |tx, one| {
        Box::pin(async move { objects::remove(tx, &one).await })
    })
    .await
    .unwrap();
    assert_eq!(objects::read_by_uid(&db, one.uid).await.unwrap(), None);
    let left = db
        .fetch("SELECT COUNT(*) FROM object_labels", &[])
        .await
        .unwrap();
    assert_eq!(left[0].int(0).unwrap(), 0);
    let feed = db::feed::since(&db, Seq(0), 10).await.unwrap();
    let ops: Vec<db::Op> = feed.iter().map(|change| change.op).collect();
    assert_eq!(ops, [db::Op::Put, db::Op::Delete]);
}
