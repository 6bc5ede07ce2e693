//! Files that are not as they should be: every error names the file, the line and what stands there.

use sim::scenario;
use std::path::PathBuf;

fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

#[test]
fn bad_rows_of_traces_are_named() {
    let check = |text: &str, want: &str| {
        let (_dir, path) = file("pods.csv", text);
        let error = sim::openb::read_pods(&path).unwrap_err().to_string();
        let want = format!("`{}` {want}", path.display());
        assert_eq!(error, want);
    };
    let header = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\n";
    check("name,cpu_milli\na,1\n", "has no column `memory_mib`");
    check(
        &format!("{header}a,1,1,1,1000\nb,1,1,many,1000\n"),
        "line 3: `many` is not a value of column `num_gpu`",
    );
    check(
        &format!("{header}a,1,1,1\n"),
        "line 2 has 4 cells; the header has 5",
    );
    check(
        &format!("{header}a,1,1,1,-5\n"),
        "line 2: `-5` is not a value of column `gpu_milli`",
    );

    let (_dir, path) = file(
        "philly.csv",
        "timestamp,duration,num_gpus,gpu_time,cluster\n2017-10-09 07:01:55,66.0,1,66.0,a\nyesterday,1,1,1,a\n",
    );
    let error = sim::philly::read(&path).unwrap_err().to_string();
    assert!(
        error.ends_with("line 3: `yesterday` is not a value of column `timestamp`"),
        "{error}"
    );

    let (_dir, path) = file("qps.csv", "timestamp_anon,value\n1,x\n");
    let error = sim::tidal::read_curve(&path).unwrap_err().to_string();
    assert!(
        error.ends_with("line 2: `x` is not a value of column `value`"),
        "{error}"
    );
}

#[test]
fn bad_lines_of_scenarios_are_named() {
    let check = |line: &str, want: &str| {
        let text = format!("pool p counted\nnodes 1 n cpu=4 gpu=2\nqueue q\n{line}\n");
        let error = scenario::parse(&text).unwrap_err().to_string();
        assert!(error.starts_with("`scenario` line 4: "), "{error}");
        assert!(error.contains(want), "{error}");
    };
    check("jop a", "`jop` is not understood; a line begins with title");
    check("job a gpu=1", "`queue=` is missing");
    check("job a queue=r runs=1h", "queue `r` is not declared above");
    check("job a queue=q gpu=1", "`runs=` is missing");
    check("job a queue=q runs=2h..1h", "goes backwards");
    check("job a queue=q runs=1", "is not a duration");
    check(
        "job a queue=q runs=1h gpu=many",
        "gpu: `many` is not a quantity",
    );
    check(
        "job a queue=q runs=1h gpu=1 soon",
        "`soon` is not understood in a `job` line",
    );
    check("job a queue=q runs=1h members=2 min=3", "is more than");
    check("job a queue=q runs=1h every=0s", "never comes to an end");
    check("nodes many n gpu=8", "write `nodes COUNT NAME");
    check("nodes 1 n pool=x gpu=8", "pool `x` is not declared above");
    check("at 1h explode", "`explode` is not a change");
    check("at 1h scale web to 3", "app `web` is not declared above");
    check("at 1h burst a 3", "job `a` is not declared above");
    check(
        "expect joy = 1",
        "`joy` is not measured; there are finished",
    );
    check("expect finished", "write `expect MEASURE");
    check("faults n every=1h", "`for=` is missing");
    check("seed x", "is not a whole number");
}

#[test]
fn a_file_may_include_others_and_errors_name_the_right_one() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("main.sim");
    let trace = dir.path().join("trace.sim");
    std::fs::write(
        &main,
        "pool p counted\nnodes 1 n cpu=4\nqueue q\ninclude trace.sim\n",
    )
    .unwrap();
    std::fs::write(
        &trace,
        "job a queue=q at=1m cpu=1 runs=1m\njob b queue=q at=2m cpu=1 runs=1m\n",
    )
    .unwrap();
    assert_eq!(scenario::read(&main).unwrap().jobs.len(), 2);
    std::fs::write(&trace, "job a queue=q at=1m cpu=1 runs=1m\njob b\n").unwrap();
    let error = scenario::read(&main).unwrap_err().to_string();
    assert!(error.contains("trace.sim` line 2: "), "{error}");
    std::fs::write(&trace, "include main.sim\n").unwrap();
    let error = scenario::read(&main).unwrap_err().to_string();
    assert!(error.contains("include each other"), "{error}");
}
