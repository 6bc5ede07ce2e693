//! `status`: the state of the platform on one page.

use crate::cmd::OutputArg;
use crate::exit::Failure;
use crate::out::Format;
use crate::session::Session;
use crate::table::table;
use crate::view::memory;
use api::answer::Overview;
use std::collections::BTreeMap;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    output: OutputArg,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let overview = session.client.status().await?;
    match args.output.output {
        Format::Json | Format::Yaml => {
            let value = serde_json::to_value(&overview)
                .map_err(|error| Failure::Failed(error.to_string()))?;
            session
                .out
                .value(&value, args.output.output == Format::Yaml)
        }
        Format::Table | Format::Wide | Format::Name => {
            session.out.text(&text(session.client.server(), &overview))
        }
    }
}

fn text(server: &str, overview: &Overview) -> String {
    let counts = |counts: &BTreeMap<String, u32>| {
        let words: Vec<String> = counts
            .iter()
            .filter(|(_, n)| **n > 0)
            .map(|(phase, n)| format!("{n} {phase}"))
            .collect();
        if words.is_empty() {
            "none".to_owned()
        } else {
            words.join(", ")
        }
    };
    let amount = |used: Option<String>, all: Option<String>| match all {
        Some(all) => format!("{} of {all}", used.unwrap_or_else(|| "0".to_owned())),
        None => "-".to_owned(),
    };
    let (used, all) = (&overview.used, &overview.allocatable);
    let mut text = format!("Server    {server} (version {})\n", overview.version);
    for (name, url) in [
        ("Console", &overview.console_url),
        ("Gateway", &overview.gateway_url),
    ] {
        if let Some(url) = url {
            text.push_str(&format!("{name:<9} {url}\n"));
        }
    }
    text.push_str(&format!(
        "Nodes     {} of {} ready\n",
        overview.nodes_ready, overview.nodes
    ));
    text.push_str(&format!(
        "CPU       {} placed\n",
        amount(
            used.cpu.map(|cpu| cpu.to_string()),
            all.cpu.map(|cpu| cpu.to_string())
        )
    ));
    text.push_str(&format!(
        "Memory    {} placed\n",
        amount(
            used.memory.map(|bytes| memory(&bytes.to_string())),
            all.memory.map(|bytes| memory(&bytes.to_string()))
        )
    ));
    if let Some(gpu) = all.gpu {
        text.push_str(&format!(
            "GPU       {} of {gpu} placed\n",
            used.gpu.unwrap_or(0.0)
        ));
    }
    text.push_str(&format!("Jobs      {}\n", counts(&overview.jobs)));
    text.push_str(&format!("Apps      {}\n", counts(&overview.apps)));
    if !overview.queues.is_empty() {
        let rows: Vec<Vec<String>> = overview
            .queues
            .iter()
            .map(|queue| {
                vec![
                    queue.name.clone(),
                    queue.waiting.to_string(),
                    queue.running.to_string(),
                ]
            })
            .collect();
        text.push('\n');
        text.push_str(&table(&["QUEUE", "WAITING", "RUNNING"], &rows));
    }
    for warning in &overview.warnings {
        text.push_str(&format!("\nwarning: {warning}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn a_page() {
        let overview: Overview = serde_json::from_value(json!({
            "version": "0.1.0", "nodesReady": 1, "nodes": 2,
            "allocatable": {"cpu": "4", "memory": "16Gi", "gpu": 2.0}, "used": {"cpu": "1500m", "gpu": 0.5},
            "jobs": {"Running": 2, "Queued": 1, "Failed": 0}, "apps": {},
            "queues": [{"name": "default", "waiting": 1, "running": 2}],
            "warnings": ["programs run without limits: the server is not root"],
            "gatewayUrl": "http://127.0.0.1:8080", "consoleUrl": "http://127.0.0.1:7070/",
        }))
        .unwrap();
        expect![[r#"
            Server    http://127.0.0.1:7070 (version 0.1.0)
            Console   http://127.0.0.1:7070/
            Gateway   http://127.0.0.1:8080
            Nodes     1 of 2 ready
            CPU       1500m of 4 placed
            Memory    0 of 16Gi placed
            GPU       0.5 of 2 placed
            Jobs      1 Queued, 2 Running
            Apps      none

            QUEUE    WAITING  RUNNING
            default  1        2

            warning: programs run without limits: the server is not root
        "#]]
        .assert_eq(&text("http://127.0.0.1:7070", &overview));
    }
}
