//! The Helm chart: rendered with its own values and with others, it passes the checks of the manifests; its schema takes its values and
//! refuses what is misspelt; no value is without a use.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::kubernetes::{check_gateway, check_sidecar, kind};
use super::render::Renderer;
use super::{Environment, read, root, text, version, yaml};

const CHART: &str = "deploy/helm/homeostat";

fn values() -> Value {
    yaml("values.yaml", &read(&format!("{CHART}/values.yaml")))
}

/// What a template renders to, for each that renders to something; and the values that templates asked for.
fn rendered(values: Value) -> (Vec<Value>, BTreeSet<String>) {
    let chart = yaml("Chart.yaml", &read(&format!("{CHART}/Chart.yaml")));
    let helpers = read(&format!("{CHART}/templates/_helpers.tpl"));
    let mut renderer = Renderer::new(values, &chart, &helpers);
    let mut names: Vec<String> = fs::read_dir(root().join(CHART).join("templates"))
        .expect("there are templates")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let mut documents = Vec::new();
    for name in names.iter().filter(|name| !name.starts_with('_')) {
        let text = renderer.render(&read(&format!("{CHART}/templates/{name}")));
        assert!(!text.contains("{{"), "{name} holds an action that was not rendered:\n{text}");
        if name.ends_with(".yaml") && !text.trim().is_empty() {
            documents.push(yaml(name, &text));
        }
    }
    (documents, renderer.used)
}

#[tokio::test]
async fn the_chart_renders_a_gateway_whose_parts_agree() {
    let (documents, _) = rendered(values());
    check_gateway(&documents, &Environment::new()).await;
    kind(&documents, "NetworkPolicy");
    let set = kind(&documents, "StatefulSet");
    assert_eq!(set["metadata"]["name"], "shop-homeostat");
    assert_eq!(set["spec"]["template"]["spec"]["containers"][0]["image"], format!("homeostat:{}", version()));
    assert_eq!(set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"], "10Gi");
}

#[tokio::test]
async fn the_charts_values_reach_the_manifests() {
    let mut values = values();
    values["image"] = serde_json::json!({
        "repository": "example/homeostat", "tag": "9.9.9", "pullPolicy": "Always", "pullSecrets": [{ "name": "key" }]
    });
    values["config"]["exporters"] = serde_json::json!({ "nats": { "servers": ["${env:NATS_URL}"] } });
    values["config"]["service"]["pipelines"]["feedback"]["exporters"] = serde_json::json!(["nats"]);
    values["env"] = serde_json::json!([{ "name": "NATS_URL", "value": "nats://nats:4222" }]);
    values["envFrom"] = serde_json::json!([{ "secretRef": { "name": "sinks" } }]);
    values["persistence"]["storageClass"] = "fast".into();
    values["networkPolicy"]["senders"] = serde_json::json!([{ "podSelector": {} }]);
    values["service"]["type"] = "LoadBalancer".into();
    values["priorityClassName"] = "observability".into();
    values["tolerations"] = serde_json::json!([{ "key": "gateway" }]);
    values["nodeSelector"] = serde_json::json!({ "disk": "ssd" });
    values["affinity"] = serde_json::json!({ "nodeAffinity": {} });
    values["sidecar"]["enabled"] = true.into();
    let (documents, _) = rendered(values);
    let ports = check_gateway(&documents, &Environment::new()).await;
    let set = kind(&documents, "StatefulSet");
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], "example/homeostat:9.9.9");
    assert_eq!(pod["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(pod["containers"][0]["envFrom"][0]["secretRef"]["name"], "sinks");
    assert_eq!(pod["imagePullSecrets"][0]["name"], "key");
    assert_eq!(pod["priorityClassName"], "observability");
    assert_eq!(pod["tolerations"][0]["key"], "gateway");
    assert_eq!(pod["nodeSelector"]["disk"], "ssd");
    assert!(pod["affinity"].get("nodeAffinity").is_some());
    assert_eq!(set["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"], "fast");
    let service = kind(&documents, "Service");
    assert_eq!(service["spec"]["type"], "LoadBalancer");
    let policy = kind(&documents, "NetworkPolicy");
    assert_eq!(policy["spec"]["ingress"][0]["from"], serde_json::json!([{ "podSelector": {} }]));

    let map = documents.iter().find(|document| document["metadata"]["name"] == "shop-homeostat-sidecar");
    let map = map.expect("the sidecars have their ConfigMap");
    check_sidecar(map, &Environment::new()).await;
    let configuration = yaml("homeostat.yaml", text(map, "/data/homeostat.yaml"));
    let gateway = format!("http://{}.judges.svc:{}", text(service, "/metadata/name"), ports["otlp-grpc"]);
    assert_eq!(configuration["exporters"]["otlp/gateway"]["endpoint"], gateway);
}

#[tokio::test]
async fn the_chart_does_without_a_volume_and_without_a_policy() {
    let mut values = values();
    values["persistence"]["enabled"] = false.into();
    values["networkPolicy"]["enabled"] = false.into();
    values["podAnnotations"] = serde_json::json!({ "prometheus.io/port": "8888" });
    let (documents, _) = rendered(values);
    check_gateway(&documents, &Environment::new()).await;
    let set = kind(&documents, "StatefulSet");
    assert!(set["spec"].get("volumeClaimTemplates").is_none());
    assert!(documents.iter().all(|document| document["kind"] != "NetworkPolicy"));
}

#[test]
fn the_chart_has_the_version_of_the_binary() {
    let chart = yaml("Chart.yaml", &read(&format!("{CHART}/Chart.yaml")));
    assert_eq!(chart["apiVersion"], "v2");
    assert_eq!(chart["name"], "homeostat");
    assert_eq!(chart["appVersion"], version());
    assert_eq!(text(&chart, "/version").split('.').count(), 3, "a chart's version is semantic");
}

/// The paths of all values that are not mappings of the chart's own.
fn paths(value: &Value, schema: &Value, path: &str, found: &mut Vec<String>) {
    match (value, schema.get("properties").and_then(Value::as_object)) {
        // `config` is homeostat's own, and is used as a whole.
        (Value::Object(fields), Some(_)) if path != "config" => {
            for (key, field) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                paths(field, &schema["properties"][key], &path, found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn every_value_is_used_and_every_value_has_its_schema() {
    let values = values();
    let schema: Value =
        serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).expect("the schema is JSON");
    let (_, used) = rendered(values.clone());
    let mut all = Vec::new();
    paths(&values, &schema, "", &mut all);
    assert!(all.len() > 15, "{all:?}");
    for path in all {
        assert!(used.contains(&path), "no template uses {path}");
        let pointer = format!("/properties/{}", path.replace('.', "/properties/"));
        assert!(schema.pointer(&pointer).is_some(), "the schema has no {path}");
    }
}

/// As much of JSON Schema as `values.schema.json` uses.
fn problems(value: &Value, schema: &Value, path: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (key, rule) in schema.as_object().expect("a schema is an object") {
        match key.as_str() {
            "$schema" | "title" | "items" | "properties" => {}
            "type" => {
                let is_right = match rule.as_str() {
                    Some("object") => value.is_object(),
                    Some("array") => value.is_array(),
                    Some("string") => value.is_string(),
                    Some("boolean") => value.is_boolean(),
                    _ => panic!("no type {rule}"),
                };
                if !is_right {
                    problems.push(format!("{path} is no {rule}"));
                }
            }
            "required" => {
                let missing = rule.as_array().expect("a list").iter().filter(|name| {
                    value.is_object() && value.get(name.as_str().expect("names are texts")).is_none()
                });
                problems.extend(missing.map(|name| format!("{path} lacks {name}")));
            }
            "enum" => {
                if !rule.as_array().expect("a list").contains(value) {
                    problems.push(format!("{path} is none of {rule}"));
                }
            }
            "minLength" => {
                let length = value.as_str().map_or(0, str::len) as u64;
                if Some(length) < rule.as_u64() {
                    problems.push(format!("{path} is too short"));
                }
            }
            "additionalProperties" => {
                assert_eq!(rule, false, "{path}");
                let fields = value.as_object().into_iter().flatten();
                let unknown = fields.filter(|(name, _)| schema["properties"].get(name.as_str()).is_none());
                problems.extend(unknown.map(|(name, _)| format!("{path} has no {name}")));
            }
            _ => panic!("{path}: this test knows no {key}"),
        }
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        if let Some(schema) = schema["properties"].get(name.as_str()) {
            problems.extend(self::problems(field, schema, &format!("{path}.{name}")));
        }
    }
    if let Some(items) = schema.get("items") {
        let elements = value.as_array().into_iter().flatten();
        problems.extend(elements.flat_map(|element| self::problems(element, items, &format!("{path}[]"))));
    }
    problems
}

#[test]
fn the_schema_takes_the_charts_values_and_refuses_what_is_misspelt() {
    let schema: Value =
        serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).expect("the schema is JSON");
    let check = |change: &dyn Fn(&mut Value), expected: &[&str]| {
        let mut values = values();
        change(&mut values);
        assert_eq!(problems(&values, &schema, ""), expected);
    };
    check(&|_| {}, &[]);
    check(&|values| values["imag"] = "x".into(), &[" has no imag"]);
    check(&|values| values["image"]["tag"] = 1.into(), &[".image.tag is no \"string\""]);
    check(&|values| values["env"] = serde_json::json!([{ "value": "x" }]), &[".env[] lacks \"name\""]);
    check(
        &|values| values["service"]["type"] = "Ingress".into(),
        &[".service.type is none of [\"ClusterIP\",\"NodePort\",\"LoadBalancer\"]"],
    );
    check(&|values| values["model"] = "".into(), &[".model is too short"]);
}
