//! `homeostat schema`: JSON Schema (draft 2020-12) of what homeostat reads and of what it writes, made from the types that read
//! and write it. No schema is kept anywhere else.

use std::path::Path;

use anyhow::{Context as _, bail};
use homeostat_config::{Block, Kind};
use homeostat_pipeline::settings::did_you_mean;
use serde_json::Value;

use crate::cli::{self, Format, GOOD};
use crate::components::sections;
use crate::{extensions, output};

/// One schema.
struct Document {
    /// `config`, `event deviation_detected` …
    name: String,
    /// One line for the list.
    about: String,
    schema: Value,
}

/// Lists the schemas, prints one, or writes all.
///
/// # Errors
/// There is none of that name, or a file cannot be written.
pub fn command(arguments: &cli::Schema) -> anyhow::Result<u8> {
    let documents = documents();
    if let Some(directory) = &arguments.directory {
        return write(&documents, directory);
    }
    let name = spelt(&arguments.name.join(" "));
    let found: Vec<&Document> = documents.iter().filter(|one| is_named(&one.name, &name)).collect();
    match (found.as_slice(), arguments.format) {
        ([one], _) if one.name == name => output::line(&format!("{:#}", one.schema)),
        ([], _) => {
            let near = did_you_mean(&name, documents.iter().map(|one| one.name.as_str()));
            bail!("there is no schema `{name}`{near}: `homeostat schema` lists them");
        }
        (found, Format::Text) => {
            for one in found {
                output::line(&format!("{:<36} {}", one.name, one.about));
            }
        }
        (found, Format::Json) => {
            let list: Vec<Value> = found
                .iter()
                .map(|one| serde_json::json!({ "name": one.name, "about": one.about, "id": one.schema["$id"] }))
                .collect();
            output::line(&Value::from(list).to_string());
        }
    }
    Ok(GOOD)
}

/// The name as the list has it: `event sea.event.deviation_detected.v1` is `event deviation_detected`.
fn spelt(name: &str) -> String {
    let Some((_, rest)) = name.strip_prefix("event ").and_then(|kind| kind.split_once(".event.")) else {
        return name.to_owned();
    };
    format!("event {}", rest.split('.').next().unwrap_or(rest))
}

/// Whether `name` is what was asked for: all of it, or its first words.
fn is_named(name: &str, asked: &str) -> bool {
    name.strip_prefix(asked).is_some_and(|rest| asked.is_empty() || rest.is_empty() || rest.starts_with(' '))
}

fn write(documents: &[Document], directory: &Path) -> anyhow::Result<u8> {
    for one in documents {
        let path = directory.join(format!("{}.json", one.name.replace(' ', "/")));
        let folder = path.parent().unwrap_or(directory);
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        std::fs::write(&path, format!("{:#}\n", one.schema))
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        output::line(&path.display().to_string());
    }
    Ok(GOOD)
}

fn documents() -> Vec<Document> {
    let mut documents = vec![Document {
        name: "config".to_owned(),
        about: "the configuration, for editors".to_owned(),
        schema: configuration(),
    }];
    documents.extend(homeostat_exporters::nats::schemas().into_iter().map(|event| Document {
        name: format!("event {}", event.name),
        about: "a message of `nats`: a CloudEvent and its data".to_owned(),
        schema: event.schema,
    }));
    documents.extend(homeostat_pipeline::ledger::schemas().into_iter().map(|(kind, mut schema)| {
        schema["$id"] = format!("{}finding/{kind}.json", homeostat_config::BASE).into();
        schema["title"] = kind.clone().into();
        Document {
            name: format!("finding {kind}"),
            about: "the body of a ledger entry (`homeostat ledger export`, `file`, `postgres`)".to_owned(),
            schema,
        }
    }));
    documents
}

fn configuration() -> Value {
    let [receivers, processors, exporters] = sections().map(|(_, list)| -> Vec<Kind> {
        list.into_iter().map(|one| (one.kind, one.about, one.schema)).collect()
    });
    let extensions = extensions::list().map(|one| (one.kind, one.about, one.schema)).to_vec();
    homeostat_config::schema(&[
        (Block::Receivers, receivers),
        (Block::Processors, processors),
        (Block::Exporters, exporters),
        (Block::Extensions, extensions),
    ])
}

#[cfg(test)]
mod tests;
