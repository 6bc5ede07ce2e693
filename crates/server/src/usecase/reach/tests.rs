use super::*;
use base::{Attempt, Epoch, Index, Time, Uid};

fn placement(group: &str, index: u32, state: &str) -> Placement {
    Placement {
        owner: Uid(1),
        group: group.to_owned(),
        index: Index(index),
        attempt: Attempt(1),
        task: Uid(2),
        tenant: String::new(),
        project: "default".to_owned(),
        cluster: "local".to_owned(),
        unit: "gang".to_owned(),
        node: "node-1".to_owned(),
        devices: json!([]),
        ports: json!({}),
        state: state.to_owned(),
        deadline: None,
        reason: String::new(),
        epoch: Epoch(1),
        created_at: Time::from_ms(0),
        ended_at: None,
        ending: json!(null),
    }
}

#[test]
fn the_replica_that_is_meant() {
    let placements = || {
        vec![
            placement("ps", 0, "released"),
            placement("worker", 0, "bound"),
            placement("worker", 1, "bound"),
        ]
    };
    let phases = BTreeMap::from([
        ("worker/0".to_owned(), "BackingOff".to_owned()),
        ("worker/1".to_owned(), "Running".to_owned()),
    ]);
    let check = |group: Option<&str>, index: Option<u32>, expect: &str| {
        let which = Which {
            group: group.map(str::to_owned),
            index,
        };
        let found = pick(placements(), &phases, &which, "job `a`");
        let found = found.map_or_else(|error| error.to_string(), |placement| member(&placement));
        assert_eq!(found, expect);
    };
    check(None, None, "worker/1");
    check(Some("worker"), Some(0), "worker/0");
    check(None, Some(1), "worker/1");
    check(
        Some("ps"),
        None,
        "`ps` of job `a` does not run any more; what runs: worker/0, worker/1",
    );
    check(
        Some("worker"),
        Some(7),
        "job `a` has no `worker/7`; what runs: worker/0, worker/1",
    );
}

#[test]
fn only_a_replicas_own_ports_are_reached() {
    let spec = |name: &str, port| PortSpec {
        name: name.to_owned(),
        port,
        protocol: "http".to_owned(),
    };
    let given = BTreeMap::from([("http".to_owned(), 20_007), ("rpc".to_owned(), 20_008)]);
    let declared = [spec("http", 8080), spec("admin", 9000)];
    let check = |port: &str, expect: Result<u16, &str>| {
        let found = number(port, &given, &declared).map_err(|error| error.to_string());
        assert_eq!(found, expect.map_err(str::to_owned), "{port}");
    };
    check("http", Ok(20_007));
    check("8080", Ok(20_007));
    check("20007", Ok(20_007));
    check("rpc", Ok(20_008));
    check("admin", Ok(9000));
    check(
        "22",
        Err("`port` `22` is no port of this replica: it has admin, http, rpc"),
    );
}
