//! `homeostat components`: what a configuration may name.

use homeostat_pipeline::registry::Registration;

use crate::cli::{Format, GOOD};
use crate::output;

/// Every kind of every section, in the order of the data's path.
pub fn sections() -> [(&'static str, Vec<Registration>); 3] {
    [
        ("receivers", homeostat_receivers::list()),
        ("processors", homeostat_processors::list()),
        ("exporters", homeostat_exporters::list()),
    ]
}

/// Prints them.
///
/// # Errors
/// None.
pub fn command(format: Format) -> anyhow::Result<u8> {
    match format {
        Format::Json => {
            let mut extensions = serde_json::Map::new();
            let list = crate::extensions::list();
            let list: Vec<_> =
                list.iter().map(|one| serde_json::json!({ "type": one.kind, "about": one.about })).collect();
            extensions.insert("extensions".to_owned(), list.into());
            let sections = sections().map(|(section, list)| {
                let list: Vec<_> = list
                    .iter()
                    .map(|one| serde_json::json!({ "type": one.kind, "about": one.about }))
                    .collect();
                (section.to_owned(), serde_json::Value::from(list))
            });
            output::line(
                &serde_json::Value::Object(sections.into_iter().chain(extensions).collect()).to_string(),
            );
        }
        Format::Text => {
            for (section, list) in sections() {
                output::line(&format!("{section}:"));
                for one in list {
                    output::line(&format!("  {:<15} {}", one.kind, one.about));
                }
            }
            output::line("extensions:");
            for one in crate::extensions::list() {
                output::line(&format!("  {:<15} {}", one.kind, one.about));
            }
        }
    }
    Ok(GOOD)
}
