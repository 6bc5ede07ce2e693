//! `top`: who uses what right now.

use crate::exit::Failure;
use crate::session::Session;
use crate::table::table;
use api::answer::Top;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `nodes` or `replicas`. Default: both.
    #[arg(value_parser = ["nodes", "replicas"])]
    what: Option<String>,
    /// Replicas of all projects.
    #[arg(short = 'A', long)]
    all_projects: bool,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let project = if args.all_projects {
        None
    } else {
        Some(session.project.as_str())
    };
    let top = session.client.top(project).await?;
    let mut parts = Vec::new();
    if args.what.as_deref() != Some("replicas") {
        parts.push(nodes(&top));
    }
    if args.what.as_deref() != Some("nodes") {
        parts.push(replicas(&top));
    }
    session.out.text(&parts.join("\n"))
}

fn nodes(top: &Top) -> String {
    let of = |amount: Option<String>| amount.unwrap_or_else(|| "-".to_owned());
    let rows: Vec<Vec<String>> = top
        .nodes
        .iter()
        .map(|node| {
            let cpu = of(node.allocatable.cpu.map(|cpu| cpu.to_string()));
            let memory = of(node.allocatable.memory.map(|memory| memory.to_string()));
            vec![
                node.name.clone(),
                node.cpu.to_string(),
                cpu,
                mebibytes(node.memory.0),
                memory,
            ]
        })
        .collect();
    table(&["NODE", "CPU", "OF", "MEMORY", "OF"], &rows)
}

fn replicas(top: &Top) -> String {
    let mut sorted: Vec<_> = top.replicas.iter().collect();
    sorted.sort_by_key(|replica| std::cmp::Reverse(replica.cpu));
    let rows: Vec<Vec<String>> = sorted
        .iter()
        .map(|replica| {
            let name = format!(
                "{}/{}/{}/{}",
                replica.kind.to_ascii_lowercase(),
                replica.name,
                replica.group,
                replica.index
            );
            vec![
                replica.project.clone(),
                name,
                replica.node.clone(),
                replica.cpu.to_string(),
                mebibytes(replica.memory.0),
            ]
        })
        .collect();
    table(&["PROJECT", "REPLICA", "NODE", "CPU", "MEMORY"], &rows)
}

fn mebibytes(bytes: u64) -> String {
    format!("{}Mi", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn two_tables() {
        let top: Top = serde_json::from_value(json!({
            "nodes": [{"name": "n1", "allocatable": {"cpu": "4", "memory": "16Gi"}, "placed": {}, "cpu": "1200m", "memory": "3Gi"}],
            "replicas": [
                {"project": "p", "kind": "App", "name": "a", "group": "r3", "index": 0, "node": "n1", "cpu": "100m", "memory": "300Mi"},
                {"project": "p", "kind": "Job", "name": "b", "group": "worker", "index": 1, "node": "n1", "cpu": "900m", "memory": "1Gi"},
            ],
        }))
        .unwrap();
        expect![[r#"
            NODE  CPU    OF  MEMORY  OF
            n1    1200m  4   3072Mi  16Gi
        "#]]
        .assert_eq(&nodes(&top));
        expect![[r#"
            PROJECT  REPLICA         NODE  CPU   MEMORY
            p        job/b/worker/1  n1    900m  1024Mi
            p        app/a/r3/0      n1    100m  300Mi
        "#]]
        .assert_eq(&replicas(&top));
    }
}
