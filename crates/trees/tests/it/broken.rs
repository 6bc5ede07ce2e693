//! Files that are broken: an error or a model that answers, in bounded time, never a crash.

use e2e::Dice;
use std::time::{Duration, Instant};
use trees::{Error, Iterations, Kind, Matrix, Model, Options};

const XGBOOST: &str = include_str!("golden/xgboost.json");
const XGBOOST_UBJ: &[u8] = include_bytes!("golden/xgboost.ubj");
const LIGHTGBM: &str = include_str!("golden/lightgbm.txt");

/// Rounds of damage to each golden file.
const ROUNDS: u64 = 4_000;
/// For one damaged file of a few kilobytes, with much to spare for a loaded machine.
const TIME_MAX: Duration = Duration::from_secs(5);
const OPTIONS: Options = Options {
    kind: Kind::Value,
    iterations: Iterations::All,
};

#[test]
fn golden_files_answer_as_their_libraries_did() {
    let answers: serde_json::Value =
        serde_json::from_str(include_str!("golden/answers.json")).unwrap();
    for (file, key) in [
        (XGBOOST.as_bytes(), "xgboost"),
        (XGBOOST_UBJ, "xgboost"),
        (LIGHTGBM.as_bytes(), "lightgbm"),
    ] {
        let model = Model::read(file).unwrap();
        let numbers = |value: &serde_json::Value| -> Vec<f64> {
            let all = value.as_array().unwrap().iter();
            all.map(|number| number.as_f64().unwrap_or(f64::NAN))
                .collect()
        };
        let mut out = Vec::new();
        let rows = numbers(&answers["rows"]);
        model
            .predict(Matrix::F64(&rows), 3, OPTIONS, &mut out)
            .unwrap();
        let expected = numbers(&answers[key]);
        assert_eq!(out.len(), expected.len());
        for (got, wanted) in out.iter().zip(&expected) {
            assert!((got - wanted).abs() < 1e-6, "{got} instead of {wanted}");
        }
    }
}

#[test]
fn damaged_files_end_in_an_error_or_answer() {
    let seed: u64 = std::env::var("MOONSHOT_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(0x5eed);
    println!("MOONSHOT_SEED={seed}");
    for (name, file) in [
        ("json", XGBOOST.as_bytes()),
        ("ubj", XGBOOST_UBJ),
        ("txt", LIGHTGBM.as_bytes()),
    ] {
        let mut n_refused = 0;
        for round in 0..ROUNDS {
            let mut dice = Dice(seed.wrapping_add(round).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            let bytes = damage(file, &mut dice);
            let started = Instant::now();
            match Model::read(&bytes) {
                Err(_) => n_refused += 1,
                Ok(model) => {
                    let n_cols = model.n_features();
                    if n_cols > 0 && n_cols < 1_000 {
                        let rows = vec![0.5; 9 * n_cols];
                        let _ = model.predict(Matrix::F64(&rows), n_cols, OPTIONS, &mut Vec::new());
                    }
                }
            }
            let took = started.elapsed();
            assert!(took < TIME_MAX, "{name}: round {round} took {took:?}");
        }
        // Damage to what is not read (gains, counts) is harmless; most is not.
        assert!(n_refused > ROUNDS / 4, "{name}: only {n_refused} refused");
    }
}

/// Flips, cuts, repeats and swaps, and numbers that are too large.
fn damage(file: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..=dice.pick(3) {
        let at = dice.pick(bytes.len());
        match dice.pick(6) {
            0 => bytes[at] ^= 1 << dice.pick(8),
            1 => bytes.truncate(at.max(1)),
            2 => {
                let end = (at + dice.pick(200)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            3 => {
                let end = (at + dice.pick(200)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let words: [&[u8]; 6] = [
                    b"-1",
                    b"4294967296",
                    b"1e308",
                    b"nan",
                    b"9223372036854775807",
                    b"0",
                ];
                let word = words[dice.pick(words.len())];
                if let Some(digit) = bytes[at..].iter().position(u8::is_ascii_digit) {
                    bytes.splice(at + digit..=at + digit, word.iter().copied());
                }
            }
            _ => bytes[at] = [0, 0x7f, 0xff, b'[', b'{', b'Z', b'#', b'$'][dice.pick(8)],
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
    bytes
}

#[test]
fn what_is_wrong_is_said() {
    let check = |bytes: &[u8], wanted: &str| {
        let error = Model::read(bytes).unwrap_err().to_string();
        assert!(error.contains(wanted), "`{error}` does not say `{wanted}`");
    };
    check(b"", "empty");
    check(b"\x80\x04\x95", "neither an XGBoost model");
    check(b"binf\x00\x00", "old binary format");
    check(b"{\"a\": 1}", "`learner` is missing");
    check(b"{}", "`learner` is missing");
    check(b"tree\nversion=v4\n", "`max_feature_idx` is missing");
    check(&XGBOOST.as_bytes()[..XGBOOST.len() / 2], "ends early");
    check(&LIGHTGBM.as_bytes()[..LIGHTGBM.len() / 2], "corrupt");
    check(
        XGBOOST.replace("binary:logistic", "my:own").as_bytes(),
        "`my:own` is not known",
    );
    check(
        LIGHTGBM
            .replace("objective=binary", "objective=mine")
            .as_bytes(),
        "`mine",
    );
    let deep = format!("{{\"learner\":{}", "[".repeat(100_000));
    check(deep.as_bytes(), "nested too deeply");
    let deep = format!("{{\"learner\":{}", "{\"a\":".repeat(100_000));
    check(deep.as_bytes(), "nested too deeply");
}

#[test]
fn a_tree_that_leads_back_to_itself_is_refused() {
    // The first split of the first tree: its left child becomes the root.
    let at = XGBOOST.find("\"left_children\":[1,").unwrap();
    let cyclic = format!(
        "{}\"left_children\":[0,{}",
        &XGBOOST[..at],
        &XGBOOST[at + 19..]
    );
    let error = Model::read(cyclic.as_bytes()).unwrap_err();
    assert!(
        matches!(&error, Error::Corrupt(text) if text.contains("two ways")),
        "{error}"
    );
    let at = LIGHTGBM.find("left_child=").unwrap();
    let end = at + LIGHTGBM[at..].find('\n').unwrap();
    let n = LIGHTGBM[at..end].split(' ').count();
    let cyclic = format!(
        "{}left_child={}{}",
        &LIGHTGBM[..at],
        "0 ".repeat(n),
        &LIGHTGBM[end..]
    );
    let error = Model::read(cyclic.as_bytes()).unwrap_err();
    assert!(
        matches!(&error, Error::Corrupt(text) if text.contains("two ways")),
        "{error}"
    );
}

#[test]
fn an_array_that_says_it_is_huge_takes_no_memory() {
    let mut bytes = b"{L\0\0\0\0\0\0\0\x07learner{L\0\0\0\0\0\0\0\x0dfeature_names[$d#L".to_vec();
    bytes.extend(i64::MAX.to_be_bytes());
    let error = Model::read(&bytes).unwrap_err();
    assert!(
        error.to_string().contains("longer than the file"),
        "{error}"
    );
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    let model = Model::read(XGBOOST.as_bytes()).unwrap();
    let mut out = Vec::new();
    let error = model
        .predict(Matrix::F32(&[0.0; 4]), 4, OPTIONS, &mut out)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "a row has 4 columns, the model expects 3"
    );
    let error = model
        .predict(Matrix::F32(&[0.0; 4]), 3, OPTIONS, &mut out)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "4 values are not whole rows of 3 columns"
    );
    let options = Options {
        iterations: Iterations::Range(0, 99),
        ..OPTIONS
    };
    let error = model
        .predict(Matrix::F32(&[0.0; 3]), 3, options, &mut out)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("iterations 0 to 99 are not in the model"),
        "{error}"
    );
    assert!(out.is_empty());
}
