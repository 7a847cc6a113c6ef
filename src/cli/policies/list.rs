//! `rowcast policies list`.

use std::process::ExitCode;

use super::subject::Subject;
use crate::cli::{Failure, block_on, print};
use crate::config::Config;
use crate::policy::listing;

pub(super) fn run(config: &Config) -> Result<ExitCode, Failure> {
    let text = block_on(async {
        let subject = Subject::open(config).await?;
        let listing = listing::read(&subject.connection, &subject.catalog).await;
        Ok(listing.map_err(Failure::failed)?.render())
    })??;
    print(&text);
    Ok(ExitCode::SUCCESS)
}
