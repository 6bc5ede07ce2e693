//! Random lives under every policy: no promise that the books do not cover, all work ends, and the same seed
//! gives the same life. `MOONSHOT_SEED` runs one.

use sim::Dice;
use sim::policies::{POLICIES, policy};
use sim::scenario::{self, Scenario};

/// Small clusters with a bit of everything.
fn random(seed: u64) -> Scenario {
    let mut dice = Dice::new(seed);
    let mut text = String::new();
    let mode = if dice.below(2) == 0 {
        "named"
    } else {
        "counted"
    };
    text += &format!("seed {seed}\npool p {mode} levels=rack\n");
    text += &format!(
        "nodes {} n cpu=16 memory=64Gi gpu=4 rack=2\n",
        2 + dice.below(4)
    );
    text += &format!("queue a guaranteed.gpu={}\n", dice.below(6));
    text += &format!(
        "queue b weight={} limit.gpu={}\n",
        1 + dice.below(3),
        8 + dice.below(20)
    );
    for job in 0..2 + dice.below(4) {
        let queue = ["a", "b"][dice.below(2)];
        let (gpu, members) = (1 + dice.below(4), 1 + dice.below(2));
        let extra = [
            "",
            " checkpoint=5m stops=20s",
            " priority=5",
            " fixed",
            " limit=3h",
            " loads=1m stops=5s grace=10s",
        ][dice.below(6)];
        let min = 1 + dice.below(members);
        text += &format!(
            "job j{job} queue={queue} every={}m to=10h gpu={gpu} cpu=1 members={members} min={min} runs=5m..2h{extra}\n",
            10 + dice.below(60)
        );
    }
    text += &format!(
        "app w queue=a replicas={} gpu=1 cpu=1 stops=10s loads=5s\n",
        dice.below(4)
    );
    for _ in 0..dice.below(6) {
        let at = dice.below(600);
        let node = dice.below(2);
        let what = [
            format!("drain n-{node}"),
            format!("undrain n-{node}"),
            format!("fail n-{node} for 20m"),
            format!("queue a guaranteed gpu={}", dice.below(8)),
            format!("scale w to {}", dice.below(6)),
            "burst j0 3".to_owned(),
            "add 1 like n-0".to_owned(),
        ];
        text += &format!("at {at}m {}\n", what[dice.below(what.len())]);
    }
    // Whatever was closed is opened again, so that all work can end.
    text += "at 12h undrain n-*\nat 12h scale w to 0\nuntil 20d\n";
    scenario::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("MOONSHOT_SEED") {
        Ok(seed) => vec![seed.parse().expect("MOONSHOT_SEED is a number")],
        Err(_) => (0..count).collect(),
    }
}

#[test]
fn lives_keep_their_promises_and_end() {
    for seed in seeds(60) {
        let life = random(seed);
        for (policy_name, _) in POLICIES {
            if !["moonshot", "fifo", "easy", "sjf", "tiresias", "bestfit"].contains(policy_name) {
                continue;
            }
            let mut deciding =
                policy(policy_name, sched::Config::standard(), Vec::new(), seed).unwrap();
            let outcome = scenario::run(&life, deciding.as_mut(), false);
            let none: Vec<String> = Vec::new();
            assert_eq!(
                outcome.complaints, none,
                "MOONSHOT_SEED={seed} {policy_name}"
            );
            for (work, fate) in &outcome.works {
                let name = &work.spec.name;
                assert!(
                    fate.ended.is_some(),
                    "MOONSHOT_SEED={seed} {policy_name}: {name} never ends"
                );
            }
        }
    }
}

#[test]
fn a_life_depends_on_its_seed_alone() {
    for seed in seeds(10) {
        let life = random(seed);
        for name in ["moonshot", "tiresias", "random"] {
            let live = || {
                let mut deciding =
                    policy(name, sched::Config::standard(), Vec::new(), seed).unwrap();
                scenario::told(&scenario::run(&life, deciding.as_mut(), true))
            };
            assert_eq!(live(), live(), "MOONSHOT_SEED={seed} {name}");
        }
    }
}
