//! `homeostat print-config`: what the files, the assignments and the environment come to, without secrets.

use homeostat_config::{Block, Named, shown, write, write_json};
use homeostat_pipeline::settings::Problem;

use crate::cli::{self, FOUND, GOOD, Language};
use crate::components::sections;
use crate::{configuration, extensions, output};

/// Prints the configuration, or on standard error what is wrong with it (exit 1).
///
/// # Errors
/// None: mistakes are printed.
pub fn command(arguments: &cli::PrintConfig) -> anyhow::Result<u8> {
    let read = configuration::read(&arguments.configuration);
    let shown = read.and_then(|(configuration, warnings)| {
        configuration::report(&warnings);
        shown(&configuration.spec, &show, arguments.defaults).map_err(|problem| vec![problem])
    });
    let tree = match shown {
        Ok(tree) => tree,
        Err(problems) => {
            configuration::report(&problems);
            return Ok(FOUND);
        }
    };
    match arguments.format {
        Language::Yaml => output::line(write(&tree).trim_end()),
        Language::Json => output::line(&format!("{:#}", write_json(&tree))),
    }
    Ok(GOOD)
}

fn show(block: Block, named: &Named) -> Result<String, Problem> {
    let [(_, receivers), (_, processors), (_, exporters)] = sections();
    let list = match block {
        Block::Receivers => receivers,
        Block::Processors => processors,
        Block::Exporters => exporters,
        Block::Extensions => {
            let list = extensions::list();
            let kind = list.iter().find(|one| one.kind == named.kind);
            return kind.map_or_else(|| Err(unknown(named)), |kind| (kind.show)(&named.node));
        }
    };
    let kind = list.iter().find(|one| one.kind == named.kind);
    kind.map_or_else(|| Err(unknown(named)), |kind| (kind.show)(&named.node))
}

fn unknown(named: &Named) -> Problem {
    Problem::error(&named.at, format!("unknown type `{}`", named.kind))
}
