//! `homeostat silence …`: keeps deviations from being told for a while.

use homeostat_pipeline::finding::{Silence, SilenceChange};

use crate::api::NewSilence;
use crate::cli::{Format, GOOD, Silences};
use crate::client::{Client, Method, encoded, table};
use crate::output;

/// Runs one of them.
///
/// # Errors
/// Nobody answers at the admin address, or the answer is no.
pub fn command(command: &Silences) -> anyhow::Result<u8> {
    match command {
        Silences::Add { matchers, period, comment, by, format } => {
            let asked = NewSilence {
                author: by.author()?,
                matchers: matchers.clone(),
                period: Some(period.clone()),
                comment: comment.clone(),
                ..NewSilence::default()
            };
            let made: Silence =
                Client::new(&by.admin)?.ask(Method::POST, "/api/v1/silences", Some(&asked))?;
            match format {
                Format::Json => output::line(&serde_json::to_string(&made)?),
                Format::Text => output::line(&made.id),
            }
        }
        Silences::List { all, admin, format } => {
            let path = format!("/api/v1/silences?all={all}");
            let found: Vec<Silence> = Client::new(admin)?.ask::<(), _>(Method::GET, &path, None)?;
            match format {
                Format::Json => output::line(&serde_json::to_string(&found)?),
                Format::Text => {
                    let mut rows = vec![["ID", "ENDS", "BY", "MATCHERS", "COMMENT"].map(str::to_owned)];
                    rows.extend(found.iter().map(row));
                    table(&rows).iter().for_each(|line| output::line(line));
                }
            }
        }
        Silences::Expire { id, by, format } => {
            let path = format!("/api/v1/silences/{}?author={}", encoded(id), encoded(&by.author()?));
            let ended: Silence = Client::new(&by.admin)?.ask::<(), _>(Method::DELETE, &path, None)?;
            match format {
                Format::Json => output::line(&serde_json::to_string(&ended)?),
                Format::Text => output::line(&format!("{} ended at {}", ended.id, ended.ends_at)),
            }
        }
    }
    Ok(GOOD)
}

fn row(one: &Silence) -> [String; 5] {
    let ends = match one.change {
        SilenceChange::Created => one.ends_at.to_string(),
        SilenceChange::Expired => format!("{} (over)", one.ends_at),
    };
    [one.id.clone(), ends, one.author.clone(), one.matchers.join(","), one.comment.clone()]
}
