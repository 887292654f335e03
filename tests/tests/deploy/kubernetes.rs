//! The manifests, and what the chart renders: one set of checks for both. Names, ports, volumes, probes and selectors agree, nothing
//! runs with more rights than it needs, and each configuration is valid with the variables of its container.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    CONFIGURATION, DATA, Environment, Listening, check_configuration, check_image, documents, list, named,
    read, text, version, yaml,
};

/// The document of this kind; there is exactly one.
pub fn kind<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<&Value> = documents.iter().filter(|document| document["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "documents of kind {kind}");
    found[0]
}

/// The variables of a container; what a Secret holds is a value that fits.
fn environment(container: &Value) -> Environment {
    let declared = container.get("env").map_or(&[][..], |_| list(container, "/env"));
    declared
        .iter()
        .map(|variable| {
            let name = text(variable, "/name");
            let value = match variable.get("value") {
                Some(value) => value.as_str().expect("values are texts").to_owned(),
                None => {
                    assert_eq!(text(variable, "/valueFrom/secretKeyRef/key"), name);
                    format!("{}://somewhere:1", if name == "DATABASE_URL" { "postgres" } else { "nats" })
                }
            };
            (name.to_owned(), value)
        })
        .collect()
}

/// What every Pod and container of ours keeps to.
fn check_rights(pod: &Value, container: &Value) {
    let says = |key: &str| {
        let of_container = container.pointer(&format!("/securityContext/{key}"));
        of_container.or_else(|| pod.pointer(&format!("/securityContext/{key}"))).cloned().unwrap_or_default()
    };
    assert_eq!(says("runAsNonRoot"), true);
    assert_eq!(says("runAsUser"), 65532, "the user of the image");
    assert_eq!(says("allowPrivilegeEscalation"), false);
    assert_eq!(says("readOnlyRootFilesystem"), true);
    assert_eq!(says("capabilities"), serde_json::json!({ "drop": ["ALL"] }));
    assert_eq!(says("seccompProfile"), serde_json::json!({ "type": "RuntimeDefault" }));
    for resource in ["/resources/requests/cpu", "/resources/requests/memory", "/resources/limits/memory"] {
        text(container, resource);
    }
    let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("a Pod has its time to end");
    assert!(grace > 10, "`service.shutdown` is 10 s and the Pod has {grace} s");
    assert_eq!(list(container, "/args"), ["run", "--config", CONFIGURATION]);
}

/// Name → what it is, of every volume of a Pod and every claim of a set; each mount names one.
fn check_volumes(pod: &Value, claims: &[Value], container: &Value) -> BTreeMap<String, Value> {
    let mut volumes = BTreeMap::new();
    for volume in list(pod, "/volumes") {
        volumes.insert(text(volume, "/name").to_owned(), volume.clone());
    }
    for claim in claims {
        volumes.insert(text(claim, "/metadata/name").to_owned(), claim.clone());
    }
    let mut mounted = BTreeMap::new();
    for mount in list(container, "/volumeMounts") {
        let volume = volumes.get(text(mount, "/name")).unwrap_or_else(|| panic!("{mount} names no volume"));
        mounted.insert(text(mount, "/mountPath").to_owned(), volume.clone());
    }
    mounted
}

/// A gateway: configuration, service, set and policy agree with one another. Says which ports it serves.
pub async fn check_gateway(documents: &[Value], extra: &Environment) -> BTreeMap<&'static str, u64> {
    for document in documents {
        text(document, "/apiVersion");
        text(document, "/metadata/name");
    }
    let set = kind(documents, "StatefulSet");
    assert_eq!(set["spec"]["replicas"], 1, "exactly one instance judges");
    let pod = &set["spec"]["template"]["spec"];
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    let [container] = list(pod, "/containers") else { panic!("one container") };
    check_rights(pod, container);
    assert_eq!(pod["securityContext"]["fsGroup"], 65532, "the volume is the user's");
    check_image(text(container, "/image"));
    let account = kind(documents, "ServiceAccount");
    assert_eq!(pod["serviceAccountName"], account["metadata"]["name"]);
    assert_eq!(
        (&account["automountServiceAccountToken"], &pod["automountServiceAccountToken"]),
        (&false.into(), &false.into())
    );

    let claims = set.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array);
    let mounted = check_volumes(pod, claims.map_or(&[], Vec::as_slice), container);
    let map = documents
        .iter()
        .find(|document| document["kind"] == "ConfigMap" && document["data"].get("model.yml").is_some())
        .expect("a ConfigMap holds the model");
    assert_eq!(mounted["/etc/homeostat"]["configMap"]["name"], map["metadata"]["name"]);
    assert!(mounted.contains_key(DATA), "the data directory is a volume");

    let configuration = text(map, "/data/homeostat.yaml");
    let mut variables = environment(container);
    variables.extend(extra.clone());
    check_configuration("the gateway", configuration, text(map, "/data/model.yml"), &variables).await;
    let configuration = yaml("homeostat.yaml", configuration);
    assert_eq!(configuration["service"]["storage"]["directory"], DATA);
    let ports = Listening::of(&configuration).ports();
    check_ports(documents, container, labels, &ports);
    assert_eq!(&set["spec"]["selector"]["matchLabels"], labels);
    ports
}

/// Container, probes, Service and policy serve exactly these ports.
fn check_ports(documents: &[Value], container: &Value, labels: &Value, ports: &BTreeMap<&str, u64>) {
    let declared = list(container, "/ports");
    assert_eq!(declared.len(), ports.len());
    let service = kind(documents, "Service");
    assert_eq!(&service["spec"]["selector"], labels, "the Service selects the Pod");
    assert_eq!(kind(documents, "StatefulSet")["spec"]["serviceName"], service["metadata"]["name"]);
    for (name, port) in ports {
        assert_eq!(named(declared, name)["containerPort"], *port);
        let served = named(list(service, "/spec/ports"), name);
        assert_eq!((&served["port"], &served["targetPort"]), (&(*port).into(), &(*name).into()));
    }
    for (probe, path) in
        [("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")]
    {
        assert_eq!(container[probe]["httpGet"], serde_json::json!({ "path": path, "port": "metrics" }));
    }
    let annotations = &kind(documents, "StatefulSet")["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["prometheus.io/port"], ports["metrics"].to_string());
    if documents.iter().any(|document| document["kind"] == "NetworkPolicy") {
        check_policy(kind(documents, "NetworkPolicy"), labels, ports);
    }
}

/// The policy isolates the Pod, and admits only named senders, each to open ports.
fn check_policy(policy: &Value, labels: &Value, ports: &BTreeMap<&str, u64>) {
    assert_eq!(&policy["spec"]["podSelector"]["matchLabels"], labels);
    assert_eq!(list(policy, "/spec/policyTypes"), ["Ingress"]);
    let mut admitted = BTreeSet::new();
    for rule in list(policy, "/spec/ingress") {
        let from = list(rule, "/from");
        assert!(!from.is_empty(), "a rule without `from` admits everybody");
        for peer in from {
            assert_ne!(
                peer,
                &serde_json::json!({ "namespaceSelector": {} }),
                "that is every Pod of the cluster"
            );
        }
        for port in list(rule, "/ports") {
            assert_eq!(port["protocol"], "TCP");
            admitted.insert(port["port"].as_u64().expect("ports are numbers"));
        }
    }
    assert_eq!(admitted, ports.values().copied().collect::<BTreeSet<u64>>());
}

/// A sidecar's configuration keeps to loopback, stores nothing and passes everything on. Says where it listens.
pub async fn check_sidecar(map: &Value, environment: &Environment) -> BTreeMap<&'static str, String> {
    let configuration = text(map, "/data/homeostat.yaml");
    check_configuration("the sidecar", configuration, "", environment).await;
    let configuration = yaml("homeostat.yaml", configuration);
    assert_eq!(configuration["service"]["storage"], "none");
    assert!(configuration.get("processors").is_none(), "it judges nothing");
    let endpoints = Listening::of(&configuration).endpoints;
    assert!(endpoints.values().all(|endpoint| endpoint.starts_with("127.0.0.1:")), "{endpoints:?}");
    endpoints
}

#[tokio::test]
async fn the_parts_of_the_gateway_agree() {
    let documents = documents("gateway.yaml", &read("deploy/kubernetes/gateway.yaml"));
    check_gateway(&documents, &Environment::new()).await;
    kind(&documents, "NetworkPolicy");
    let pod = &kind(&documents, "StatefulSet")["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], format!("homeostat:{}", version()));
}

#[tokio::test]
async fn the_sidecar_sends_to_the_gateway_and_keeps_to_its_pod() {
    let documents_of = |name: &str| documents(name, &read(&format!("deploy/kubernetes/{name}")));
    let (sidecar, gateway) = (documents_of("sidecar.yaml"), documents_of("gateway.yaml"));
    let pod = &kind(&sidecar, "Deployment")["spec"]["template"]["spec"];
    let [container] = list(pod, "/initContainers") else { panic!("one sidecar") };
    assert_eq!(container["restartPolicy"], "Always", "else it is an init container that must end first");
    check_rights(pod, container);
    assert_eq!(container["image"], format!("homeostat:{}", version()));
    let map = kind(&sidecar, "ConfigMap");
    let mounted = check_volumes(pod, &[], container);
    assert_eq!(mounted["/etc/homeostat"]["configMap"]["name"], map["metadata"]["name"]);

    let variables = environment(container);
    let endpoints = check_sidecar(map, &variables).await;
    let service = kind(&gateway, "Service");
    let port = &named(list(service, "/spec/ports"), "otlp-grpc")["port"];
    let address = format!("http://{}.homeostat.svc:{port}", text(service, "/metadata/name"));
    assert_eq!(variables["HOMEOSTAT_GATEWAY"], address);
    let [own] = list(pod, "/containers") else { panic!("one service") };
    let exporter = named(list(own, "/env"), "OTEL_EXPORTER_OTLP_ENDPOINT");
    assert_eq!(text(exporter, "/value"), format!("http://{}", endpoints["otlp-grpc"]));

    // The kubelet cannot reach loopback, so the image's probe asks.
    for (probe, path) in [("startupProbe", "/readyz"), ("livenessProbe", "/healthz")] {
        let asked = list(&container[probe], "/exec/command");
        assert_eq!(asked, ["/usr/bin/homeostat-probe", &endpoints["metrics"], path]);
        assert!(read("deploy/Dockerfile").contains("deploy/docker/probe /usr/bin/homeostat-probe"));
    }
}
