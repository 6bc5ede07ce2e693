//! `run`: a program of this directory as a Job, followed to its end.

use crate::cmd::attach;
use crate::code;
use crate::exit::Failure;
use crate::session::Session;
use api::{Kind, Object};
use base::{Bytes, Code, Digest, MilliCpu, Span};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;

/// How long an Environment may take to be built.
const BUILD_MAX: Span = Span::from_secs(60 * 60);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An Environment: `NAME` or `NAME@VERSION`.
    #[arg(
        long,
        alias = "environment",
        value_name = "NAME",
        conflicts_with = "pip"
    )]
    env: Option<String>,
    /// Packages instead of an Environment, as pip writes them: "xgboost numpy>=2". They are built once.
    #[arg(long, value_name = "PACKAGES")]
    pip: Option<String>,
    /// GPUs of each replica: `1`, `2`, `0.5`.
    #[arg(long, value_name = "N")]
    gpus: Option<f64>,
    /// Processors of each replica: `500m`, `2`.
    #[arg(long, value_name = "AMOUNT")]
    cpu: Option<MilliCpu>,
    /// Memory of each replica: `512Mi`, `4Gi`.
    #[arg(long, value_name = "AMOUNT")]
    memory: Option<Bytes>,
    /// How many replicas start together.
    #[arg(long, value_name = "N", default_value_t = 1)]
    replicas: u32,
    /// `xgboost`, `tensorflow`, `pytorch`, `mpi`, `mxnet` or `caffe`: sets what its launcher expects.
    #[arg(long, value_name = "NAME")]
    framework: Option<String>,
    /// A parameter: `lr=0.1`. May be repeated.
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = param)]
    param: Vec<(String, Value)>,
    /// A variable: `NAME=VALUE`. May be repeated.
    #[arg(short, long = "variable", value_name = "NAME=VALUE", value_parser = variable)]
    variable: Vec<(String, String)>,
    /// The queue.
    #[arg(long)]
    queue: Option<String>,
    /// The longest it may run: `4h`.
    #[arg(long, value_name = "TIME")]
    time_limit: Option<Span>,
    /// The Job's name. Default: from the program's name.
    #[arg(long)]
    name: Option<String>,
    /// The directory with the code.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Do not follow it.
    #[arg(short, long)]
    detach: bool,
    /// Download its outputs into this directory when it has succeeded.
    #[arg(long, value_name = "DIR", conflicts_with = "detach")]
    output: Option<PathBuf>,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// `lr=0.1` is a number, `name=x` a text: JSON where it is JSON.
fn param(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write `name=value`")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
    Ok((name.to_owned(), value))
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write `NAME=VALUE`")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let packed = code::pack(&args.dir)?;
    code::upload(session, &packed, "uploading the code").await?;
    let environment = match &args.pip {
        Some(packages) => Some(environment(session, packages).await?),
        None => args.env.clone(),
    };
    let object = job(&args, &session.project, environment, packed.digest);
    let made = session.client.create(&object, Kind::Job, false).await?;
    let name = made.metadata.name;
    if args.detach {
        session.out.line(format!("job/{name} created"))?;
        session.out.note(format!(
            "`moonshot attach {name}` follows it, `moonshot logs {name}` shows its output"
        ));
        return Ok(());
    }
    session.out.note(format!("[job/{name}] created"));
    let went_well = attach::follow(session, &name).await?;
    match (&args.output, went_well) {
        (Some(dir), true) => super::cp::all_outputs(session, &name, dir).await,
        (Some(_), false) | (None, _) => Ok(()),
    }
}

/// The Job of a command line.
fn job(args: &Args, project: &str, environment: Option<String>, code: Digest) -> Object {
    let mut spec = Map::new();
    let mut set = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            spec.insert(field.to_owned(), value);
        }
    };
    set("command", Some(json!(args.command)));
    set("code", Some(json!({ "digest": code })));
    set("environment", environment.map(Value::from));
    set("framework", args.framework.clone().map(Value::from));
    set("queue", args.queue.clone().map(Value::from));
    set("timeLimit", args.time_limit.map(|limit| json!(limit)));
    let mut resources = Map::new();
    for (field, value) in [
        ("cpu", args.cpu.map(|cpu| json!(cpu))),
        ("memory", args.memory.map(|memory| json!(memory))),
        ("gpu", args.gpus.map(|gpus| json!(gpus))),
    ] {
        if let Some(value) = value {
            resources.insert(field.to_owned(), value);
        }
    }
    set(
        "resources",
        Some(Value::Object(resources)).filter(|resources| resources != &json!({})),
    );
    let params: Map<String, Value> = args.param.iter().cloned().collect();
    set(
        "params",
        Some(Value::Object(params)).filter(|params| params != &json!({})),
    );
    let env: Vec<Value> = args
        .variable
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    set(
        "env",
        Some(Value::from(env)).filter(|env| env != &json!([])),
    );
    if args.replicas != 1 {
        set(
            "groups",
            Some(json!([{ "name": "worker", "replicas": args.replicas }])),
        );
    }
    let metadata = match &args.name {
        Some(name) => api::Metadata {
            name: name.clone(),
            ..api::Metadata::default()
        },
        None => api::Metadata {
            generate_name: Some(format!("{}-", base_name(&args.command))),
            ..api::Metadata::default()
        },
    };
    Object {
        api_version: api::meta::API_VERSION.to_owned(),
        kind: Kind::Job.as_str().to_owned(),
        metadata: api::Metadata {
            project: project.to_owned(),
            ..metadata
        },
        spec: Value::Object(spec),
        status: None,
    }
}

/// `train` for `python src/train.py --fast`.
fn base_name(command: &[String]) -> String {
    let interpreters = [
        "python", "python3", "sh", "bash", "mpirun", "mpiexec", "torchrun",
    ];
    let stem = |word: &str| {
        let file = word.rsplit('/').next().unwrap_or_default();
        file.split('.')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    let program = command
        .iter()
        .find(|word| !word.starts_with('-') && !interpreters.contains(&stem(word).as_str()));
    let word = program
        .or(command.first())
        .map(|word| stem(word))
        .unwrap_or_default();
    let clean: String = word
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    let clean = clean.trim_matches('-');
    if clean.is_empty() {
        "job".to_owned()
    } else {
        clean.to_owned()
    }
}

/// The Environment of these packages, made when it is new: its name is a digest of them, so that the same
/// packages are built once.
async fn environment(session: &Session, packages: &str) -> Result<String, Failure> {
    let mut pip: Vec<&str> = packages.split_whitespace().collect();
    pip.sort_unstable();
    let digest = Digest(Sha256::digest(pip.join("\n").as_bytes()).into());
    let name = format!("pip-{}", &digest.hex()[..12]);
    let object = Object {
        api_version: api::meta::API_VERSION.to_owned(),
        kind: Kind::Environment.as_str().to_owned(),
        metadata: api::Metadata {
            name: name.clone(),
            project: session.project.clone(),
            ..api::Metadata::default()
        },
        spec: json!({ "pip": pip }),
        status: None,
    };
    match session
        .client
        .create(&object, Kind::Environment, false)
        .await
    {
        Ok(_) => session.out.note(format!(
            "[environment/{name}] created for {}",
            pip.join(", ")
        )),
        Err(error) if error.code() == Code::Conflict => {}
        Err(error) => return Err(error.into()),
    }
    let target = crate::target::Target {
        kind: Kind::Environment,
        name: name.clone(),
    };
    let ready = super::wait::Condition::done(Kind::Environment);
    super::wait::until(session, &target, &ready, super::wait::deadline(BUILD_MAX)).await?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Args {
        Line::try_parse_from(std::iter::once("run").chain(line.split(' ')))
            .unwrap()
            .args
    }

    fn spec(line: &str) -> Value {
        let object = job(&parse(line), "default", None, Digest([0; 32]));
        let mut value = serde_json::to_value(&object).unwrap();
        api::check(&object, api::Purpose::Create).unwrap();
        value["spec"].as_object_mut().unwrap().remove("code");
        value["spec"].take()
    }

    #[test]
    fn a_command_line_becomes_a_valid_job() {
        assert_eq!(
            spec("python train.py"),
            json!({"command": ["python", "train.py"]})
        );
        assert_eq!(
            spec(
                "--gpus 0.5 --cpu 2 --memory 4Gi --replicas 2 --framework xgboost -p lr=0.1 -p name=x -p on=true -v A=b=c --time-limit 4h -- python train.py --lr 3"
            ),
            json!({
                "command": ["python", "train.py", "--lr", "3"],
                "framework": "xgboost",
                "timeLimit": "4h",
                "resources": {"cpu": "2", "memory": "4Gi", "gpu": 0.5},
                "params": {"lr": 0.1, "name": "x", "on": true},
                "env": [{"name": "A", "value": "b=c"}],
                "groups": [{"name": "worker", "replicas": 2}],
            })
        );
    }

    #[test]
    fn names_come_from_programs() {
        for (command, expect) in [
            ("python src/Train_X.py --a", "train-x"),
            ("python3 -m pkg.mod", "pkg"),
            ("./run.sh", "run"),
            ("sh -c", "sh"),
            ("--", "job"),
            ("é", "job"),
        ] {
            let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
            assert_eq!(base_name(&words), expect, "{command}");
        }
    }
}
