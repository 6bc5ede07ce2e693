//! Registries of a Project: from where its images are pulled, and the Secret that pods name to do so. Pure.

use crate::names;
use engine::{Project, Registry, Runtime};
use k8s_openapi::ByteString;
use serde_json::{Map, Value, json};

/// The registry of images that name none.
const DOCKER: &str = "docker.io";
/// What that registry is called where passwords are kept.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";

/// A name and password for a registry.
pub(crate) struct Login {
    /// The host that images are pulled from.
    pub(crate) host: String,
    pub(crate) username: String,
    pub(crate) password: String,
}

/// Whether pods need a Secret to pull.
pub(crate) fn needs_secret(registries: &[Registry]) -> bool {
    registries.iter().any(|registry| registry.secret.is_some())
}

/// Where a registry's images come from.
pub(crate) fn source(registry: &Registry) -> &str {
    registry.mirror.as_ref().unwrap_or(&registry.host)
}

/// What pods name in `imagePullSecrets`. Its values are in no log: it is written and never read.
pub(crate) fn pull_secret(project: &Project, logins: &[Login]) -> Value {
    let mut auths = Map::new();
    for login in logins {
        let key = match login.host.as_str() {
            DOCKER => DOCKER_KEY,
            host => host,
        };
        let login = json!({"username": login.username, "password": login.password});
        auths.insert(key.to_owned(), login);
    }
    let config = json!({"auths": auths}).to_string().into_bytes();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": names::PULL_SECRET,
            "namespace": project.name,
            "labels": {names::MANAGED.0: names::MANAGED.1},
        },
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": ByteString(config)},
    })
}

/// What code runs in, with its image as the node shall pull it.
pub(crate) fn mirrored(registries: &[Registry], runtime: &Runtime) -> Runtime {
    let Runtime::Image(image) = runtime else {
        return runtime.clone();
    };
    let (host, path) = match image.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            (first, rest.to_owned())
        }
        Some(_) => (DOCKER, image.clone()),
        None => (DOCKER, format!("library/{image}")),
    };
    let its = |registry: &&Registry| registry.host == host;
    let mirror = registries
        .iter()
        .find(its)
        .and_then(|its| its.mirror.as_ref());
    let pulled = mirror.map(|mirror| format!("{mirror}/{path}"));
    Runtime::Image(pulled.unwrap_or_else(|| image.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(host: &str, mirror: Option<&str>) -> Registry {
        Registry {
            host: host.to_owned(),
            mirror: mirror.map(str::to_owned),
            secret: None,
        }
    }

    #[test]
    fn an_image_is_pulled_from_the_mirror_of_its_registry() {
        let registries = [
            registry("docker.io", Some("hub.example.org")),
            registry("a.example.org:5000", Some("b.example.org")),
            registry("c.example.org", None),
        ];
        let check = |image: &str, expect: &str| {
            let runtime = Runtime::Image(image.to_owned());
            let expect = Runtime::Image(expect.to_owned());
            assert_eq!(mirrored(&registries, &runtime), expect, "{image}");
        };
        check("python:3.11", "hub.example.org/library/python:3.11");
        check("team/tool@sha256:1", "hub.example.org/team/tool@sha256:1");
        check("a.example.org:5000/x/y:1", "b.example.org/x/y:1");
        check("a.example.org/x/y:1", "a.example.org/x/y:1");
        check("c.example.org/x:1", "c.example.org/x:1");
        check("localhost/x:1", "localhost/x:1");
        assert_eq!(mirrored(&registries, &Runtime::Host), Runtime::Host);
    }

    #[test]
    fn the_pull_secret_has_each_login() {
        let login = |host: &str| Login {
            host: host.to_owned(),
            username: "me".to_owned(),
            password: "it's".to_owned(),
        };
        let project = Project::plain("air", "default");
        let secret = pull_secret(&project, &[login("r.example.org"), login("docker.io")]);
        let typed: k8s_openapi::api::core::v1::Secret =
            serde_json::from_value(secret).expect("a Secret");
        let data = typed.data.expect("it has data");
        let config: Value = serde_json::from_slice(&data[".dockerconfigjson"].0).expect("JSON");
        let login = json!({"username": "me", "password": "it's"});
        let expect =
            json!({"auths": {"r.example.org": login, "https://index.docker.io/v1/": login}});
        assert_eq!(config, expect);
    }
}
