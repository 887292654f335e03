//! `homeostat model show`: a model as it holds.

use anyhow::bail;
use homeostat_pipeline::settings::did_you_mean;
use homeostat_processors::homeostasis::model::{MeasureView, RequirementView};

use super::{Show, ShowFormat, View, valid};
use crate::cli::GOOD;
use crate::output;

/// Prints the model, or one requirement of it.
///
/// # Errors
/// The model is not valid, or has no such requirement.
pub fn command(arguments: &Show) -> anyhow::Result<u8> {
    let mut view = View::of(&valid(&arguments.file, arguments.severity_rules.as_deref())?);
    if let Some(req) = &arguments.req {
        let keys: Vec<String> = view.requirements.iter().map(|one| one.req_id.clone()).collect();
        view.requirements.retain(|one| one.req_id == *req);
        if view.requirements.is_empty() {
            let near = did_you_mean(req, keys.iter().map(String::as_str));
            bail!("the model has no requirement `{req}`{near}");
        }
    }
    match arguments.format {
        ShowFormat::Table => table(&view),
        ShowFormat::Json => output::line(&serde_json::to_string(&view)?),
        ShowFormat::Yaml => {
            // JSON is YAML, and read as such it keeps its order; a model has no references whose `$` had to be doubled.
            let node = homeostat_config::parse("<model>", &serde_json::to_string(&view)?)?;
            output::line(homeostat_config::write(&node).replace("$$", "$").trim_end());
        }
    }
    Ok(GOOD)
}

fn table(view: &View) {
    let version = if view.version.is_empty() { "no version" } else { &view.version };
    output::line(&format!("model {} ({version}), panes of {}", view.model_hash, view.pane));
    for (key, value) in &view.defaults {
        output::line(&format!("  {key:<26} {value}"));
    }
    for requirement in &view.requirements {
        one(requirement);
    }
    for (name, steps) in &view.flows {
        output::line(&format!("\nflow {name} (read and checked; conformance does not judge by it yet)"));
        steps.iter().for_each(|step| output::line(&format!("  {step}")));
    }
}

fn one(requirement: &RequirementView) {
    let title = requirement.about.get("title").map_or("", String::as_str);
    output::line(&format!("\n{}  {title}", requirement.req_id));
    for (key, value) in requirement.about.iter().filter(|(key, _)| **key != "title") {
        output::line(&format!("  {key:<16} {value}"));
    }
    for measure in &requirement.measures {
        measured(measure);
        for rule in requirement.rules.iter().filter(|rule| rule.measure == measure.measure) {
            let holds =
                if rule.holds_for == "0s" { String::new() } else { format!(" for {}", rule.holds_for) };
            output::line(&format!("    {:<9} {}: {}{holds}", rule.severity, rule.id, rule.condition));
            if rule.is_implicit {
                output::line(
                    "              by its thresholds and the severity table: no rule is about this measure",
                );
            }
            let by = if rule.group_by.is_empty() {
                String::new()
            } else {
                format!(", each {}", rule.group_by.join(" × "))
            };
            let actions = rule.actions.join(", ");
            output::line(&format!("              then {actions}; quiet for {}{by}", rule.cooldown));
            if !rule.inhibited_by.is_empty() {
                let causes = rule.inhibited_by.join(", ");
                output::line(&format!("              kept quiet while it fires: {causes}"));
            }
            if let Some(runbook) = &rule.runbook {
                output::line(&format!("              see {runbook}"));
            }
        }
    }
    for name in &requirement.elsewhere {
        output::line(&format!("  elsewhere        {name}"));
    }
}

fn measured(measure: &MeasureView) {
    output::line(&format!(
        "  {}: {}, in {}, {}, over {}",
        measure.measure, measure.is, measure.unit, measure.direction, measure.window
    ));
    let numbers = |all: &std::collections::BTreeMap<&str, f64>| {
        let all: Vec<String> = all.iter().map(|(word, number)| format!("{word} {number}")).collect();
        all.join(", ")
    };
    for (what, all) in [("thresholds", &measure.thresholds), ("normal", &measure.baseline)] {
        if !all.is_empty() {
            output::line(&format!("    {what:<10} {}", numbers(all)));
        }
    }
    let fed = if measure.fed_by.is_empty() { "nothing".to_owned() } else { measure.fed_by.join("; ") };
    output::line(&format!("    fed by     {fed}"));
}
