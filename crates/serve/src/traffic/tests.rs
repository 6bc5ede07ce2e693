use super::*;

fn traffic(text: &str) -> Traffic {
    let settings: Settings = toml::from_str(text).unwrap();
    settings.check().unwrap();
    Traffic::new(settings)
}

/// A model whose versions answer after a load, which is all that matters here.
fn model(numbers: &[u64]) -> Model {
    Model {
        on_demand: numbers.iter().copied().collect(),
        labels: [("stable".to_owned(), 4)].into(),
        ..Model::default()
    }
}

fn number(pick: Pick<'_>) -> Option<u64> {
    match pick {
        Pick::Number(number) => Some(number),
        _ => None,
    }
}

/// How often each version is given a hundred requests.
fn shares(traffic: &Traffic, model: &Model) -> Vec<(u64, usize)> {
    let mut shares = std::collections::BTreeMap::new();
    for _ in 0..100 {
        let (pick, trial) = traffic.route("m", model, |_| None).unwrap();
        assert!(trial.is_some());
        *shares.entry(number(pick).unwrap()).or_default() += 1;
    }
    shares.into_iter().collect()
}

#[test]
fn shares_are_as_said_among_those_that_answer() {
    let traffic = traffic("percent = {4 = 90, 5 = 10, 6 = 0}");
    assert_eq!(shares(&traffic, &model(&[4, 5, 6, 7])), [(4, 90), (5, 10)]);
    assert_eq!(shares(&traffic, &model(&[5, 7])), [(5, 100)]);
    let (pick, trial) = traffic.route("m", &model(&[7]), |_| None).unwrap();
    assert!(pick == Pick::Latest && trial.is_none());
    assert_eq!(number(traffic.standing(&model(&[4, 5]))), Some(4));
    assert_eq!(number(traffic.standing(&model(&[5]))), Some(5));
}

#[test]
fn a_header_chooses_before_the_shares_and_is_not_counted() {
    let traffic = traffic("percent = {4 = 50, 5 = 50}\nheader = \"x-version\"");
    let model = model(&[4, 5]);
    let ask = |value: &str| {
        let value = value.to_owned();
        traffic.route("m", &model, move |name| {
            (name == "x-version").then_some(value)
        })
    };
    for (value, wanted) in [("5", 5), ("stable", 4), ("9", 9)] {
        let (pick, trial) = ask(value).unwrap();
        assert_eq!(number(pick), Some(wanted));
        assert!(trial.is_none());
    }
    let told = ask("newest").err().unwrap();
    assert_eq!(told.code, base::Code::Invalid);
    assert!(told.text.contains("header `x-version`: `newest`"), "{told}");
}

#[test]
fn the_newer_version_is_given_up_and_comes_back_only_where_it_is_alone() {
    let traffic = traffic("percent = {4 = 50, 5 = 50}");
    assert_eq!(traffic.look(), None);
    let model_of_both = model(&[4, 5]);
    for _ in 0..200 {
        let (pick, trial) = traffic.route("m", &model_of_both, |_| None).unwrap();
        let is_new = number(pick) == Some(5);
        trial.unwrap().answered(is_new, Duration::from_millis(1));
    }
    let (version, why) = traffic.look().expect("every answer was an error");
    assert_eq!(version, 5);
    assert_eq!(
        why,
        "100 of its last 100 answers were errors (100.0 %), of version 4 0.0 %"
    );
    assert_eq!(traffic.look(), None, "it is told once");
    assert_eq!(shares(&traffic, &model_of_both), [(4, 100)]);
    assert_eq!(shares(&traffic, &model(&[5])), [(5, 100)]);
    let told = traffic.json();
    assert_eq!(told["steppedBack"]["from"], 5);
    assert_eq!(told["steppedBack"]["why"], why);
    let mut text = String::new();
    traffic.write(&mut text, "m");
    let line = "moonshot_serve_traffic_given_up{model=\"m\",version=\"5\"} 1";
    assert!(text.contains(line), "{text}");
}

#[test]
fn as_many_are_copied_as_is_said() {
    let traffic = traffic("percent = {4 = 100}\nshadow = {version = 5, percent = 30}");
    for _ in 0..100 {
        // The shadow is not in memory: nothing waits for it.
        let (_, trial) = traffic.route("m", &model(&[4]), |_| None).unwrap();
        assert!(trial.unwrap().ticket.is_none());
    }
    assert_eq!(traffic.json()["shadow"]["notReady"], 30);
}
