//! Reading scenario files. Every error names the line, what stands there and what may stand there.

use super::{AppLine, Expect, Faults, JobLine, Measure, Scenario, Step};
use crate::change::{Change, Pattern, parse_amount, set_amount};
use crate::life::Saves;
use crate::specs;
use base::{Bytes, Resources, Span};
use sched::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The most work that one `job` or `app` line may make.
const COUNT_MAX: u32 = 1_000_000;

/// A scenario that could not be read.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// The file could not be opened.
    #[error("could not read `{path}`")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line is wrong.
    #[error("`{path}` line {line}: {what}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Line from 1.
        line: usize,
        /// What is wrong and what to write instead.
        what: String,
    },
}

/// Reads a scenario file, and the files that it includes.
pub fn read(path: &Path) -> Result<Scenario, ScenarioError> {
    let mut scenario = Scenario::default();
    include(path, &mut scenario, 0)?;
    Ok(scenario)
}

/// Files may include files that include files, and no further.
const DEPTH_MAX: usize = 3;

fn include(path: &Path, scenario: &mut Scenario, depth: usize) -> Result<(), ScenarioError> {
    let text = std::fs::read_to_string(path).map_err(|source| ScenarioError::Read {
        path: path.to_owned(),
        source,
    })?;
    for (at, line) in text.lines().enumerate() {
        let wrong = |what: String| ScenarioError::Line {
            path: path.to_owned(),
            line: at + 1,
            what,
        };
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        if let Some(file) = line.strip_prefix("include ") {
            if depth == DEPTH_MAX {
                return Err(wrong(format!(
                    "files include each other more than {DEPTH_MAX} deep"
                )));
            }
            let beside = path.parent().unwrap_or(Path::new(".")).join(file.trim());
            include(&beside, scenario, depth + 1)?;
            continue;
        }
        take(line, scenario).map_err(wrong)?;
    }
    Ok(())
}

/// Reads a scenario from text; `include` is not possible.
pub fn parse(text: &str) -> Result<Scenario, ScenarioError> {
    let mut scenario = Scenario::default();
    for (at, line) in text.lines().enumerate() {
        let full = line.split('#').next().unwrap_or("").trim();
        if !full.is_empty() {
            take(full, &mut scenario).map_err(|what| ScenarioError::Line {
                path: PathBuf::from("scenario"),
                line: at + 1,
                what,
            })?;
        }
    }
    Ok(scenario)
}

/// `key=value` words of a line, each of which must be used.
struct Words<'a> {
    line: &'a str,
    given: Vec<(&'a str, &'a str)>,
    plain: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn of(line: &'a str, words: &[&'a str]) -> Self {
        let (given, plain): (Vec<&str>, Vec<&str>) =
            words.iter().copied().partition(|word| word.contains('='));
        let given = given.into_iter().filter_map(|word| word.split_once('='));
        Self {
            line,
            given: given.collect(),
            plain,
        }
    }

    fn take(&mut self, key: &str) -> Option<&'a str> {
        let at = self.given.iter().position(|(given, _)| *given == key)?;
        Some(self.given.remove(at).1)
    }

    fn flag(&mut self, word: &str) -> bool {
        let at = self.plain.iter().position(|plain| *plain == word);
        at.map(|at| self.plain.remove(at)).is_some()
    }

    fn span(&mut self, key: &str) -> Result<Option<Span>, String> {
        let text = self.take(key);
        text.map(|text| text.parse().map_err(|error| format!("{key}: {error}")))
            .transpose()
    }

    fn number<T: std::str::FromStr>(&mut self, key: &str) -> Result<Option<T>, String> {
        let text = self.take(key);
        text.map(|text| {
            text.parse()
                .map_err(|_| format!("{key}: `{text}` is not a whole number"))
        })
        .transpose()
    }

    /// Amounts of resources under a prefix; without one the common resources by name, and others as `res.NAME`.
    fn amounts(&mut self, prefix: &str) -> Result<Vec<(String, u64)>, String> {
        let mut amounts = Vec::new();
        let mut rest = Vec::new();
        for (key, value) in self.given.drain(..) {
            let name = match (prefix, key) {
                ("", "cpu" | "memory" | "gpu") => Some(key),
                ("", _) => key.strip_prefix("res."),
                _ => key.strip_prefix(prefix),
            };
            match name {
                Some(name) => {
                    let amount = parse_amount(name, value).map_err(|error| error.to_string())?;
                    amounts.push((name.to_owned(), amount));
                }
                None => rest.push((key, value)),
            }
        }
        self.given = rest;
        Ok(amounts)
    }

    fn done(self) -> Result<(), String> {
        let left: Vec<String> = self
            .given
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let left = left
            .into_iter()
            .chain(self.plain.iter().map(|word| (*word).to_owned()));
        match left.collect::<Vec<_>>().as_slice() {
            [] => Ok(()),
            left => {
                let kind = self.line.split_whitespace().next().unwrap_or("");
                Err(format!(
                    "`{}` is not understood in a `{kind}` line",
                    left.join(" ")
                ))
            }
        }
    }
}

fn resources(amounts: Vec<(String, u64)>) -> Resources {
    let mut sum = Resources::default();
    for (name, amount) in amounts {
        set_amount(&mut sum, &name, amount);
    }
    sum
}

fn take(line: &str, scenario: &mut Scenario) -> Result<(), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let rest = line
        .split_once(char::is_whitespace)
        .map_or("", |(_, rest)| rest.trim());
    match words[0] {
        "title" => scenario.title = rest.to_owned(),
        "seed" => {
            scenario.seed = rest
                .parse()
                .map_err(|_| format!("`{rest}` is not a whole number"))?
        }
        "until" => scenario.until = Some(rest.parse().map_err(|error| format!("until: {error}"))?),
        "pool" => pool(line, &words, scenario)?,
        "nodes" => nodes(line, &words, scenario)?,
        "queue" => queue(line, &words, scenario)?,
        "job" => job(line, &words, scenario)?,
        "app" => app(line, &words, scenario)?,
        "at" => at(&words, rest, scenario)?,
        "faults" => {
            let mut given = Words::of(line, &words[2.min(words.len())..]);
            let nodes = words
                .get(1)
                .ok_or("write `faults NODES every=50h for=30m`")?;
            let every = given.span("every")?.ok_or("`every=` is missing")?;
            let down = given.span("for")?.ok_or("`for=` is missing")?;
            given.done()?;
            scenario.faults.push(Faults {
                nodes: Pattern((*nodes).to_owned()),
                every,
                down,
            });
        }
        "expect" => scenario.expects.push(expect(&words)?),
        other => {
            return Err(format!(
                "`{other}` is not understood; a line begins with title, seed, until, pool, nodes, queue, job, \
                 app, at, faults, expect or include"
            ));
        }
    }
    Ok(())
}

fn name<'a>(words: &[&'a str], at: usize, kind: &str) -> Result<&'a str, String> {
    let name = words.get(at).filter(|word| !word.contains('='));
    name.copied()
        .ok_or_else(|| format!("a `{kind}` line gives a name first"))
}

fn pool(line: &str, words: &[&str], scenario: &mut Scenario) -> Result<(), String> {
    let name = name(words, 1, "pool")?;
    let mut given = Words::of(line, &words[2..]);
    let levels = given.take("levels").unwrap_or("");
    let levels: Vec<&str> = levels
        .split(',')
        .filter(|level| !level.is_empty())
        .collect();
    let devices = if given.flag("counted") {
        DeviceMode::Counted
    } else {
        DeviceMode::Named
    };
    given.flag("named");
    let mut spec = specs::pool(name, devices, &levels);
    if given.flag("spread") {
        spec.packing = Packing::Spread;
    }
    given.done()?;
    scenario.pools.push(spec);
    Ok(())
}

fn nodes(line: &str, words: &[&str], scenario: &mut Scenario) -> Result<(), String> {
    let count = words.get(1).and_then(|count| count.parse::<u32>().ok());
    let count = count
        .filter(|count| (1..=200_000).contains(count))
        .ok_or("write `nodes COUNT NAME cpu=… gpu=…`")?;
    let name = name(words, 2, "nodes")?;
    let mut given = Words::of(line, &words[3..]);
    let pool = match given.take("pool") {
        Some(pool) => pool.to_owned(),
        None => scenario
            .pools
            .first()
            .map_or("default", |pool| &pool.name)
            .to_owned(),
    };
    let known = scenario.pools.iter().find(|known| known.name == pool);
    let mode = known
        .map(|known| known.devices)
        .ok_or_else(|| format!("pool `{pool}` is not declared above"))?;
    let model = given.take("model").unwrap_or("GPU").to_owned();
    let slots = given.number("slots")?.unwrap_or(0);
    let mut labels: Vec<(String, String)> = Vec::new();
    let mut racks: Vec<(String, u32)> = Vec::new();
    let levels: Vec<String> = known.map(|known| known.levels.clone()).unwrap_or_default();
    for level in levels {
        if let Some(size) = given.number::<u32>(&level)? {
            racks.push((level, size.max(1)));
        }
    }
    given
        .given
        .retain(|(key, value)| match key.strip_prefix("label.") {
            Some(label) => {
                labels.push((label.to_owned(), (*value).to_owned()));
                false
            }
            None => true,
        });
    let mut has = resources(given.amounts("")?);
    given.done()?;
    let gpus = (has.gpu_milli / 1_000) as u16;
    if mode == DeviceMode::Named {
        has.gpu_milli = 0;
    }
    let first = scenario.nodes.len() as u32;
    for number in 0..count {
        let mut labels: BTreeMap<String, String> = labels.iter().cloned().collect();
        for (level, size) in &racks {
            labels.insert(level.clone(), format!("{level}-{name}-{}", number / size));
        }
        scenario.nodes.push(NodeSpec {
            labels,
            slots_max: slots,
            devices: if mode == DeviceMode::Named {
                specs::gpus(&model, gpus)
            } else {
                Vec::new()
            },
            ..specs::node(
                first + number,
                format!("{name}-{number}"),
                &pool,
                has.clone(),
            )
        });
    }
    Ok(())
}

fn queue(line: &str, words: &[&str], scenario: &mut Scenario) -> Result<(), String> {
    let name = name(words, 1, "queue")?;
    let mut given = Words::of(line, &words[2..]);
    let mut spec = specs::queue(name);
    spec.parent = given.take("parent").map(str::to_owned);
    spec.priority = given.number("priority")?.unwrap_or(0);
    let weight = given.number("weight")?.unwrap_or(1);
    let guaranteed = resources(given.amounts("guaranteed.")?);
    let limit = given.amounts("limit.")?;
    given.done()?;
    let limit: Vec<(&str, u64)> = limit
        .iter()
        .map(|(name, most)| (name.as_str(), *most))
        .collect();
    spec.quotas
        .insert("*".to_owned(), specs::quota(guaranteed, &limit, weight));
    scenario.queues.push(spec);
    Ok(())
}

fn range(text: &str) -> Result<(Span, Span), String> {
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    let span = |text: &str| {
        text.parse::<Span>()
            .map_err(|error| format!("runs: {error}"))
    };
    let (low, high) = (span(low)?, span(high)?);
    if low > high {
        return Err(format!("runs: `{text}` goes backwards"));
    }
    Ok((low, high))
}

/// What jobs and Apps have in common.
fn member(
    given: &mut Words<'_>,
    scenario: &Scenario,
    name: &str,
) -> Result<(TaskSpec, Saves, Span), String> {
    let queue = given.take("queue").ok_or("`queue=` is missing")?;
    if !scenario.queues.iter().any(|known| known.name == queue) {
        return Err(format!("queue `{queue}` is not declared above"));
    }
    let saves = Saves {
        every: given.span("checkpoint")?,
        on_stop: given.span("stops")?,
    };
    let mut spec = specs::task(0, queue, base::Time::default(), Vec::new());
    name.clone_into(&mut spec.name);
    spec.priority = given.number("priority")?.unwrap_or(0);
    spec.grace = given
        .span("grace")?
        .or(saves.on_stop)
        .unwrap_or(Span::from_secs(30));
    spec.checkpoints = saves.on_stop.is_some() || saves.every.is_some();
    spec.time_limit = given.span("limit")?;
    spec.min_runtime = given.span("least")?.unwrap_or(Span::ZERO);
    spec.preemptible = !given.flag("fixed");
    let loads = given.span("loads")?.unwrap_or(Span::ZERO);
    let mut group = specs::group(1, Resources::default());
    if let Some(models) = given.take("models") {
        group.gpu_models = models.split(',').map(str::to_owned).collect();
    }
    if let Some(pools) = given.take("pools") {
        group.pools = pools.split(',').map(str::to_owned).collect();
    }
    group.per_node_max = given.number("per_node")?.unwrap_or(0);
    group.gpu_memory = Bytes(0);
    for (key, required) in [("within", true), ("near", false)] {
        if let Some(level) = given.take(key) {
            group.topology = Some(TopologyRequest {
                level: level.to_owned(),
                required,
            });
        }
    }
    if let Some(level) = given.take("apart") {
        group.affinity.keys.push(name.to_owned());
        group
            .affinity
            .against
            .push((name.to_owned(), level.to_owned()));
    }
    spec.groups.push(group);
    Ok((spec, saves, loads))
}

fn job(line: &str, words: &[&str], scenario: &mut Scenario) -> Result<(), String> {
    let name = name(words, 1, "job")?;
    let mut given = Words::of(line, &words[2..]);
    let (mut spec, saves, loads) = member(&mut given, scenario, name)?;
    let members = given.number("members")?.unwrap_or(1);
    let min = given.number("min")?.unwrap_or(members);
    let runs = range(
        given
            .take("runs")
            .ok_or("`runs=` is missing: how long it runs")?,
    )?;
    let count: Option<u32> = given.number("count")?;
    let every = given.span("every")?;
    let from = given
        .span("at")?
        .or(given.span("from")?)
        .unwrap_or(Span::ZERO);
    let to = given.span("to")?;
    let request = resources(given.amounts("")?);
    given.done()?;
    if members == 0 || min > members {
        return Err(format!(
            "`min={min}` is more than `members={members}`, or there are none"
        ));
    }
    if count.is_some_and(|count| count > COUNT_MAX) {
        return Err(format!("count: at most {COUNT_MAX}"));
    }
    if every.is_some_and(|every| every == Span::ZERO) {
        return Err("every: `0s` never comes to an end".to_owned());
    }
    let group = &mut spec.groups[0];
    (group.count, group.min, group.request) = (members, min, request);
    scenario.jobs.push(JobLine {
        spec,
        saves,
        loads,
        runs,
        // Without a number, as many as come in the time; without a time, one.
        count: count.or(every.is_none().then_some(1)),
        every,
        from,
        to,
    });
    Ok(())
}

fn app(line: &str, words: &[&str], scenario: &mut Scenario) -> Result<(), String> {
    let name = name(words, 1, "app")?;
    let mut given = Words::of(line, &words[2..]);
    let (mut spec, saves, loads) = member(&mut given, scenario, name)?;
    let replicas = given.number("replicas")?.unwrap_or(1);
    let from = given.span("at")?.unwrap_or(Span::ZERO);
    let most = given.number("disruption")?;
    spec.groups[0].request = resources(given.amounts("")?);
    given.done()?;
    if replicas > COUNT_MAX {
        return Err(format!("replicas: at most {COUNT_MAX}"));
    }
    spec.kind = TaskKind::Service;
    let number = scenario.apps.len() as u128 + 1;
    spec.disruption = most.map(|most| (base::Uid(number), most));
    scenario.apps.push(AppLine {
        spec,
        saves,
        loads,
        replicas,
        from,
    });
    Ok(())
}

fn at(words: &[&str], rest: &str, scenario: &mut Scenario) -> Result<(), String> {
    let time: Span = words
        .get(1)
        .ok_or("write `at TIME CHANGE`")?
        .parse()
        .map_err(|error| format!("at: {error}"))?;
    let what = rest
        .split_once(char::is_whitespace)
        .map_or("", |(_, what)| what.trim());
    let number = |text: &str| {
        text.parse::<u32>()
            .map_err(|_| format!("`{text}` is not a whole number"))
    };
    let step = match &words[2.min(words.len())..] {
        ["fail", nodes, "for", span] => Step::Fail {
            nodes: Pattern((*nodes).to_owned()),
            down: span.parse().map_err(|error| format!("for: {error}"))?,
        },
        ["scale", app, "to", replicas] => {
            if !scenario.apps.iter().any(|known| known.spec.name == *app) {
                return Err(format!("app `{app}` is not declared above"));
            }
            Step::Scale {
                app: (*app).to_owned(),
                replicas: number(replicas)?,
            }
        }
        ["burst", job, count] => {
            if !scenario.jobs.iter().any(|known| known.spec.name == *job) {
                return Err(format!("job `{job}` is not declared above"));
            }
            Step::Burst {
                job: (*job).to_owned(),
                count: number(count)?.min(COUNT_MAX),
            }
        }
        _ => Step::Change(what.parse::<Change>().map_err(|error| {
            format!("{error}; or `fail NODES for 30m`, `scale APP to 20`, `burst JOB 100`")
        })?),
    };
    scenario.steps.push((time, step));
    Ok(())
}

fn expect(words: &[&str]) -> Result<Expect, String> {
    let form = "write `expect MEASURE [of NAME] <= VALUE` with <=, >= or =";
    let (measure, of, sign, value) = match words {
        [_, measure, sign, value] => (measure, None, sign, value),
        [_, measure, "of", of, sign, value] => (measure, Some((*of).to_owned()), sign, value),
        _ => return Err(form.to_owned()),
    };
    let measure = Measure::ALL
        .iter()
        .find(|known| known.name() == *measure)
        .copied();
    let measure = measure.ok_or_else(|| {
        let names: Vec<&str> = Measure::ALL.iter().map(|known| known.name()).collect();
        format!(
            "`{}` is not measured; there are {}",
            words[1],
            names.join(", ")
        )
    })?;
    if !["<=", ">=", "="].contains(sign) {
        return Err(form.to_owned());
    }
    let value = match value.parse::<f64>() {
        Ok(number) => number,
        Err(_) => {
            let span: Result<Span, _> = value.parse();
            span.map_err(|error| error.to_string())?.as_ms() as f64 / 1e3
        }
    };
    Ok(Expect {
        measure,
        of,
        sign: (*sign).to_owned(),
        value,
    })
}
