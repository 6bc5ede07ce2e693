//! Quantities and versions as expressions about devices compare them: exact, where the platform's own amounts are rounded up.

use cel::ExecutionError;
use cel::common::types::{CelBool, CelDouble, CelInt, CelString, Type};
use cel::common::value::{StaticVal, Val};
use std::any::Any;
use std::cmp::Ordering;

/// Billionths, the smallest part that Kubernetes knows.
const NANO: i128 = 1_000_000_000;

/// An amount of anything, in billionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Amount(i128);

/// A semantic version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version(semver::Version);

static QUANTITY: Type = Type::new_unspecified_type("kubernetes.Quantity");
static SEMVER: Type = Type::new_unspecified_type("kubernetes.Semver");

impl Amount {
    /// `None` where this is no quantity, or one that is larger than any device.
    pub(super) fn parse(text: &str) -> Option<Amount> {
        let (sign, text) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let (factor, parts) = scale(suffix)?;
        let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
        let scaled = digits.checked_mul(factor)?.checked_mul(NANO)?;
        let below = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        Some(Amount(sign * (scaled / below.checked_mul(parts)?)))
    }
}

/// What a suffix multiplies with, and divides by: beside the platform's own, a larger unit, and exponents.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    if let Some((factor, parts)) = base::quantity::scale(suffix) {
        return Some((factor.cast_signed(), parts.cast_signed()));
    }
    match suffix {
        "E" => Some((1_000_000_000_000_000_000, 1)),
        "Ei" => Some((1 << 60, 1)),
        other => match other.strip_prefix(['e', 'E'])?.parse().ok()? {
            n @ -9_i32..0 => Some((1, 10i128.pow(n.unsigned_abs()))),
            n @ 0..=18 => Some((10i128.pow(n.unsigned_abs()), 1)),
            _ => None,
        },
    }
}

impl Version {
    pub(super) fn parse(text: &str) -> Option<Version> {
        semver::Version::parse(text).ok().map(Version)
    }
}

impl Val for Amount {
    fn get_type(&self) -> &Type {
        &QUANTITY
    }
    fn cel_type() -> &'static Type {
        &QUANTITY
    }
    fn equals(&self, other: &dyn Val) -> bool {
        other
            .downcast_ref::<Amount>()
            .is_some_and(|other| self == other)
    }
    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(*self)
    }
    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}
impl StaticVal for Amount {}

impl Val for Version {
    fn get_type(&self) -> &Type {
        &SEMVER
    }
    fn cel_type() -> &'static Type {
        &SEMVER
    }
    fn equals(&self, other: &dyn Val) -> bool {
        other
            .downcast_ref::<Version>()
            .is_some_and(|other| order_versions(self, other) == Ordering::Equal)
    }
    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }
    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}
impl StaticVal for Version {}

fn order_versions(a: &Version, b: &Version) -> Ordering {
    a.0.cmp_precedence(&b.0)
}

// ---- the functions of Kubernetes' CEL library, under its names ----

fn quantity(text: &CelString<'_>) -> Result<Amount, ExecutionError> {
    let amount = Amount::parse(text.inner());
    amount.ok_or_else(|| ExecutionError::function_error("quantity", "this is no quantity"))
}

fn is_quantity(text: &CelString<'_>) -> CelBool {
    Amount::parse(text.inner()).is_some().into()
}

fn compare(a: &Amount, b: &Amount) -> CelInt {
    (a.cmp(b) as i64).into()
}

fn is_less(a: &Amount, b: &Amount) -> CelBool {
    (a < b).into()
}

fn is_greater(a: &Amount, b: &Amount) -> CelBool {
    (a > b).into()
}

fn sign(a: &Amount) -> CelInt {
    i64::try_from(a.0.signum()).unwrap_or_default().into()
}

fn is_integer(a: &Amount) -> CelBool {
    (a.0 % NANO == 0 && i64::try_from(a.0 / NANO).is_ok()).into()
}

fn as_integer(a: &Amount) -> Result<CelInt, ExecutionError> {
    let whole = Some(a.0 / NANO).filter(|_| a.0 % NANO == 0);
    let whole = whole.and_then(|whole| i64::try_from(whole).ok());
    let no = || ExecutionError::function_error("asInteger", "this is no integer");
    whole.map(Into::into).ok_or_else(no)
}

#[expect(clippy::cast_precision_loss, reason = "it is asked for by this name")]
fn as_float(a: &Amount) -> CelDouble {
    (a.0 as f64 / NANO as f64).into()
}

fn add(a: &Amount, b: &Amount) -> Amount {
    Amount(a.0.saturating_add(b.0))
}

fn add_int(a: &Amount, b: &CelInt) -> Amount {
    Amount(a.0.saturating_add(i128::from(*b.inner()) * NANO))
}

fn sub(a: &Amount, b: &Amount) -> Amount {
    Amount(a.0.saturating_sub(b.0))
}

fn sub_int(a: &Amount, b: &CelInt) -> Amount {
    Amount(a.0.saturating_sub(i128::from(*b.inner()) * NANO))
}

fn version(text: &CelString<'_>) -> Result<Version, ExecutionError> {
    let version = Version::parse(text.inner());
    version.ok_or_else(|| ExecutionError::function_error("semver", "this is no semantic version"))
}

fn is_version(text: &CelString<'_>) -> CelBool {
    Version::parse(text.inner()).is_some().into()
}

fn compare_versions(a: &Version, b: &Version) -> CelInt {
    (order_versions(a, b) as i64).into()
}

fn is_older(a: &Version, b: &Version) -> CelBool {
    (order_versions(a, b) == Ordering::Less).into()
}

fn is_newer(a: &Version, b: &Version) -> CelBool {
    (order_versions(a, b) == Ordering::Greater).into()
}

fn part(number: u64) -> CelInt {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

fn major(a: &Version) -> CelInt {
    part(a.0.major)
}

fn minor(a: &Version) -> CelInt {
    part(a.0.minor)
}

fn patch(a: &Version) -> CelInt {
    part(a.0.patch)
}

/// Adds all of them. <https://kubernetes.io/docs/reference/using-api/cel/>
pub(super) fn library(env: &mut cel::Env) -> Result<(), cel::DeclarationError> {
    env.add_type(QUANTITY.to_owned())?;
    env.add_type(SEMVER.to_owned())?;
    cel::add_overload!(env, fn quantity: (CelString<'_>) -> Result<Amount>)?;
    cel::add_overload!(env, fn is_quantity: (CelString<'_>) -> CelBool, name = "isQuantity")?;
    cel::add_member_overload!(env, fn compare: (Amount, Amount) -> CelInt, name = "compareTo")?;
    cel::add_member_overload!(env, fn is_less: (Amount, Amount) -> CelBool, name = "isLessThan")?;
    cel::add_member_overload!(env, fn is_greater: (Amount, Amount) -> CelBool, name = "isGreaterThan")?;
    cel::add_member_overload!(env, fn sign: (Amount) -> CelInt)?;
    cel::add_member_overload!(env, fn is_integer: (Amount) -> CelBool, name = "isInteger")?;
    cel::add_member_overload!(env, fn as_integer: (Amount) -> Result<CelInt>, name = "asInteger")?;
    cel::add_member_overload!(env, fn as_float: (Amount) -> CelDouble, name = "asApproximateFloat")?;
    cel::add_member_overload!(env, fn add: (Amount, Amount) -> Amount)?;
    cel::add_member_overload!(env, fn add_int: (Amount, CelInt) -> Amount, name = "add")?;
    cel::add_member_overload!(env, fn sub: (Amount, Amount) -> Amount)?;
    cel::add_member_overload!(env, fn sub_int: (Amount, CelInt) -> Amount, name = "sub")?;
    cel::add_overload!(env, fn version: (CelString<'_>) -> Result<Version>, name = "semver")?;
    cel::add_overload!(env, fn is_version: (CelString<'_>) -> CelBool, name = "isSemver")?;
    cel::add_member_overload!(env, fn compare_versions: (Version, Version) -> CelInt, name = "compareTo")?;
    cel::add_member_overload!(env, fn is_older: (Version, Version) -> CelBool, name = "isLessThan")?;
    cel::add_member_overload!(env, fn is_newer: (Version, Version) -> CelBool, name = "isGreaterThan")?;
    cel::add_member_overload!(env, fn major: (Version) -> CelInt)?;
    cel::add_member_overload!(env, fn minor: (Version) -> CelInt)?;
    cel::add_member_overload!(env, fn patch: (Version) -> CelInt)?;
    Ok(())
}
