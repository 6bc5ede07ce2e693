use super::*;
use serde_json::json;

fn wanted(canary: serde_json::Value) -> DeliverSpec {
    serde_json::from_value(json!({"model": "flights", "app": "web", "canary": canary})).unwrap()
}

fn delivery(phase: DeliveryPhase, canary_since: Option<Time>) -> DeliveryStatus {
    DeliveryStatus {
        phase,
        version: 3,
        revision: 5,
        canary_since,
        ..DeliveryStatus::default()
    }
}

fn seen(stable: u32, ready: u32, shares: bool) -> Seen {
    Seen {
        target: 5,
        stable,
        ready,
        shares,
        closed: None,
        given_up: None,
    }
}

#[test]
fn a_canary_begins_when_it_is_ready_and_ends_after_its_time() {
    let wanted = wanted(json!({"for": "10s"}));
    let at = |ms| Time::from_ms(ms);
    let rolling = delivery(DeliveryPhase::RollingOut, None);
    assert_eq!(
        next("web", Some(&seen(4, 0, true)), &wanted, &rolling, at(0)),
        None
    );
    let canary = next("web", Some(&seen(4, 1, true)), &wanted, &rolling, at(1_000)).unwrap();
    assert_eq!(
        (canary.phase, canary.canary_since),
        (DeliveryPhase::Canary, Some(at(1_000)))
    );
    assert_eq!(
        next("web", Some(&seen(4, 2, true)), &wanted, &canary, at(10_999)),
        None
    );
    let all = next("web", Some(&seen(4, 2, true)), &wanted, &canary, at(11_000)).unwrap();
    assert_eq!(all.phase, DeliveryPhase::RollingOut);
    // Until the shares are seen to be gone it does not begin again, and until it is stable it is not delivered.
    assert_eq!(
        next("web", Some(&seen(4, 2, true)), &wanted, &all, at(12_000)),
        None
    );
    assert_eq!(
        next("web", Some(&seen(4, 2, false)), &wanted, &all, at(12_000)),
        None
    );
    let delivered = next("web", Some(&seen(5, 2, false)), &wanted, &all, at(12_000)).unwrap();
    assert_eq!(delivered.phase, DeliveryPhase::Delivered);
    assert_eq!(
        delivered.message,
        "app `web` serves version 3 of model `flights` in revision 5"
    );
}

#[test]
fn without_shares_it_is_delivered_once_it_is_stable() {
    let wanted = wanted(json!({"percent": 100}));
    let rolling = delivery(DeliveryPhase::RollingOut, None);
    let now = Time::from_ms(0);
    assert_eq!(
        next("web", Some(&seen(4, 2, false)), &wanted, &rolling, now),
        None
    );
    let delivered = next("web", Some(&seen(5, 2, false)), &wanted, &rolling, now);
    assert_eq!(
        delivered.map(|delivery| delivery.phase),
        Some(DeliveryPhase::Delivered)
    );
}

#[test]
fn a_revision_that_was_given_up_or_overtaken_is_not_taken_and_why_is_told() {
    let wanted = wanted(json!({}));
    let canary = delivery(DeliveryPhase::Canary, Some(Time::from_ms(0)));
    let told = |seen: Option<Seen>| {
        let next = next("web", seen.as_ref(), &wanted, &canary, Time::from_ms(1)).unwrap();
        assert_eq!(next.phase, DeliveryPhase::NotTaken);
        next.message
    };
    let back = Seen {
        target: 4,
        given_up: Some("5 % errors".to_owned()),
        ..Seen::default()
    };
    assert_eq!(
        told(Some(back)),
        "app `web` went back from revision 5 to 4: 5 % errors"
    );
    let after = Seen {
        target: 6,
        ..Seen::default()
    };
    assert_eq!(
        told(Some(after)),
        "revision 6 of app `web` came after revision 5"
    );
    assert_eq!(told(None), "app `web` was deleted");
}

#[test]
fn the_output_is_the_named_one_else_the_only_one_else_the_model() {
    let status = |names: &[&str]| -> JobStatus {
        let outputs: Vec<_> = names
            .iter()
            .map(|name| json!({"name": name, "replica": "worker/0", "digest": "sha256:".to_owned() + &"0".repeat(64), "size": "1"}))
            .collect();
        serde_json::from_value(json!({"phase": "Succeeded", "observedGeneration": 1, "attempts": 1, "failures": 0, "outputs": outputs})).unwrap()
    };
    let named = |name: Option<&str>| DeliverSpec {
        output: name.map(str::to_owned),
        ..DeliverSpec::default()
    };
    let found = |names: &[&str], name| {
        output(&status(names), &named(name)).map(|output| output.name.clone())
    };
    assert_eq!(found(&["x"], None), Ok("x".to_owned()));
    assert_eq!(found(&["x", "model"], None), Ok("model".to_owned()));
    assert_eq!(found(&["x", "model"], Some("x")), Ok("x".to_owned()));
    assert_eq!(
        found(&["x", "y"], None),
        Err("the Job left no output `model`".to_owned())
    );
    assert_eq!(
        found(&["x"], Some("y")),
        Err("the Job left no output `y`".to_owned())
    );
}

#[test]
fn numbers_of_an_object_are_metrics() {
    let numbers = |text: &str| numbers(text.as_bytes());
    let read = numbers(r#"{"rmse": 18.5, "n": 3, "note": "x", "by": {"a": 1}}"#).unwrap();
    assert_eq!(
        read.into_iter().collect::<Vec<_>>(),
        [("n".to_owned(), 3.0), ("rmse".to_owned(), 18.5)]
    );
    assert_eq!(numbers("[1]"), Err("is not a JSON object".to_owned()));
    assert!(numbers("{").unwrap_err().starts_with("is not JSON: "));
}
