//! What an expression in CEL says of a device. Pure.
//!
//! The language of `selectors` in device classes and claims
//! (<https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/resource-claim-v1/>): `device.driver`,
//! `device.attributes["domain"].name`, `device.capacity["domain"].name`, quantities, versions and `cel.bind`. A domain that the
//! device does not know is empty; an attribute that it does not have is an error, as Kubernetes has it.

use super::quantity::{Amount, Version, library};
use cel::common::ast::{ComprehensionExpr, Expr, ListExpr, LiteralValue};
use cel::common::traits::{Container, Indexer};
use cel::common::types::{CelBool, CelInt, CelMap, CelMapKey, CelString, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::parser::{Macro, MacroExprHelper};
use cel::{Context, Env, ExecutionError, IdedExpr, ParseError, Program, Value};
use k8s_openapi::api::resource::v1::{Device, DeviceAttribute};
use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

/// Bytes of an expression; the API server takes no longer one.
const TEXT_MAX: usize = 10 << 10;

/// What all expressions know.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    env.add_extension(library)
        .and_then(|()| env.add_macro(Macro::receiver("bind", 3, bind)))
        .expect("no name is declared twice");
    Arc::new(env)
});

/// An expression that was understood.
pub(super) struct Selector(Program);

impl Selector {
    /// The reason where it is not understood.
    pub(super) fn new(text: &str) -> Result<Selector, String> {
        if text.len() > TEXT_MAX {
            return Err(format!("it is longer than {TEXT_MAX} bytes"));
        }
        let program = ENV.compile(text);
        program
            .map(Selector)
            .map_err(|error| one_line(&error.to_string()))
    }

    /// Whether it means a device of this driver; the reason where it cannot be said.
    pub(super) fn means(&self, driver: &str, device: &Device) -> Result<bool, String> {
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.add_variable_as_val("device", Box::new(seen(driver, device)));
        match self.0.execute(&context) {
            Ok(Value::Bool(is_meant)) => Ok(is_meant),
            Ok(other) => Err(format!("it is {other:?}, neither true nor false")),
            Err(error) => Err(one_line(&error.to_string())),
        }
    }
}

fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines
        .first()
        .map_or_else(String::new, |line| (*line).to_owned())
}

/// A device as expressions see it.
fn seen(driver: &str, device: &Device) -> CelMap<'static> {
    let attributes = device.attributes.iter().flatten();
    let attributes = attributes.filter_map(|(name, attribute)| Some((name, value(attribute)?)));
    let capacity = device
        .capacity
        .iter()
        .flatten()
        .filter_map(|(name, capacity)| {
            let amount: Box<dyn Val> = Box::new(Amount::parse(&capacity.value.0)?);
            Some((name, amount))
        });
    let is_shared = device.allow_multiple_allocations.unwrap_or_default();
    let fields: [(&str, Box<dyn Val>); 4] = [
        ("driver", Box::new(CelString::from(driver.to_owned()))),
        (
            "allowMultipleAllocations",
            Box::new(CelBool::from(is_shared)),
        ),
        ("attributes", Box::new(Domains::new(driver, attributes))),
        ("capacity", Box::new(Domains::new(driver, capacity))),
    ];
    let fields = fields.map(|(name, value)| (CelMapKey::from(name.to_owned()), value));
    HashMap::from(fields).into()
}

fn value(attribute: &DeviceAttribute) -> Option<Box<dyn Val>> {
    let DeviceAttribute {
        bool,
        int,
        string,
        version,
    } = attribute;
    match (bool, int, string, version) {
        (Some(bool), ..) => Some(Box::new(CelBool::from(*bool))),
        (_, Some(int), ..) => Some(Box::new(CelInt::from(*int))),
        (_, _, Some(string), _) => Some(Box::new(CelString::from(string.clone()))),
        (.., Some(version)) => Some(Box::new(Version::parse(version)?)),
        (None, None, None, None) => None,
    }
}

/// Names by domain. Every domain is there, most of them empty.
#[derive(Clone, Debug, Default)]
struct Domains {
    known: BTreeMap<String, CelMap<'static>>,
    nothing: CelMap<'static>,
}

static DOMAINS: Type = Type::new_unspecified_type("kubernetes.DeviceDomains");

impl Domains {
    /// A name without a domain is in the driver's.
    fn new<'a>(driver: &str, all: impl Iterator<Item = (&'a String, Box<dyn Val>)>) -> Domains {
        let mut known: BTreeMap<String, HashMap<CelMapKey<'static>, Box<dyn Val>>> =
            BTreeMap::new();
        for (name, value) in all {
            let (domain, id) = name.split_once('/').unwrap_or((driver, name));
            let domain = known.entry(domain.to_owned()).or_default();
            domain.insert(id.to_owned().into(), value);
        }
        let known = known
            .into_iter()
            .map(|(domain, names)| (domain, names.into()));
        Domains {
            known: known.collect(),
            nothing: CelMap::default(),
        }
    }

    fn find(&self, key: &dyn Val) -> Result<Option<&CelMap<'static>>, ExecutionError> {
        match key.downcast_ref::<CelString<'_>>() {
            Some(key) => Ok(self.known.get(key.inner())),
            None => Err(ExecutionError::UnexpectedType {
                got: key.get_type().name().to_owned(),
                want: "string".to_owned(),
            }),
        }
    }
}

impl Val for Domains {
    fn get_type(&self) -> &Type {
        &DOMAINS
    }
    fn cel_type() -> &'static Type {
        &DOMAINS
    }
    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }
    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }
    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }
    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}
impl StaticVal for Domains {}

impl Container for Domains {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(self.find(key)?.is_some())
    }
}

impl Indexer for Domains {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let found = self.find(key)?;
        Ok(CowVal::Borrowed(found.unwrap_or(&self.nothing)))
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(key).map(CowVal::into_owned)
    }
}

/// `cel.bind(name, value, expression)`: a fold over nothing that begins with the value.
fn bind(
    helper: &mut MacroExprHelper<'_>,
    target: &mut Option<IdedExpr>,
    arguments: &mut Vec<IdedExpr>,
) -> Result<Option<IdedExpr>, ParseError> {
    let is_ours = target
        .as_ref()
        .is_some_and(|target| matches!(&target.expr, Expr::Ident(name) if name == "cel"));
    let ([name, _, _], true) = (arguments.as_slice(), is_ours) else {
        return Ok(None);
    };
    let Expr::Ident(name) = &name.expr else {
        return Err(helper.new_error(name.id, "cel.bind() names a variable first"));
    };
    let name = name.clone();
    let mut rest = arguments.drain(1..);
    let (Some(init), Some(result)) = (rest.next(), rest.next()) else {
        return Ok(None);
    };
    let fold = ComprehensionExpr {
        iter_range: helper.next_expr(Expr::List(ListExpr::new(Vec::new()))),
        iter_var: "#unused".to_owned(),
        iter_var2: None,
        accu_var: name.clone(),
        accu_init: init,
        loop_cond: helper.next_expr(Expr::Literal(LiteralValue::Boolean(false.into()))),
        loop_step: helper.next_expr(Expr::Ident(name)),
        result,
    };
    Ok(Some(helper.next_expr(Expr::Comprehension(Box::new(fold)))))
}
