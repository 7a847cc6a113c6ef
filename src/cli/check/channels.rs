//! The policies on private channels, and what each role could do there.

use super::report::{RoleView, TableView};
use super::tables::rows;
use super::{CheckOptions, Level, Report};
use crate::policy::listing::ChannelListing;
use crate::postgres::catalog::{ChannelAccess, Channels, RoleAccess, RowAccess};
use crate::postgres::quote_table;

/// Adds a finding where no policy says who may use private channels.
pub(super) fn judge(
    channels: &Channels,
    roles: &[(&str, RoleAccess)],
    options: &CheckOptions,
    report: &mut Report,
) {
    let table = &channels.read;
    if table.rls {
        return;
    }
    let enters = |access: &ChannelAccess| {
        access.read.grants(table, Channels::SELECTED) || access.write.grants(table, Channels::INSERTED)
    };
    // A role that is above row security anyway says nothing about the table.
    let open_to: Vec<&str> = roles
        .iter()
        .filter(|(role, access)| *role != "service_role" && access.channels.as_ref().is_some_and(enters))
        .map(|(role, _)| *role)
        .collect();
    let open_to = match open_to.as_slice() {
        [] => return,
        _ if options.policies_required => "nobody, by policy.required".to_owned(),
        roles => roles.join(" and "),
    };
    report.add(
        Level::Warning,
        "private channels",
        format!(
            "{} has row security off; every private channel is open to {open_to}",
            table.name
        ),
        format!(
            "ALTER TABLE {} ENABLE ROW LEVEL SECURITY;",
            quote_table(&table.name)
        ),
    );
}

pub(super) fn view(channels: &Channels, listed: ChannelListing, roles: &[(&str, RoleAccess)]) -> TableView {
    let security = if listed.row_level_security { "on" } else { "off" };
    let reads = listed.read.into_iter().map(|policy| (policy, "reading"));
    let writes = listed.write.into_iter().map(|policy| (policy, "writing"));
    TableView {
        name: "private channels".to_owned(),
        traits: format!("by {}, row security {security}", channels.read.name),
        policies: reads
            .chain(writes)
            .map(|(policy, side)| (format!("{} for {side}", policy.name), policy.judged))
            .collect(),
        roles: roles
            .iter()
            .filter_map(|(role, access)| {
                Some(RoleView {
                    role: (*role).to_owned(),
                    sees: may(channels, access.channels.as_ref()?),
                })
            })
            .collect(),
    }
}

fn may(channels: &Channels, access: &ChannelAccess) -> String {
    let Channels { read, write } = channels;
    let mut reads = match access.read.grants(read, Channels::SELECTED) {
        true => rows(&read.policies, &access.read.rows),
        false => "nothing: it may not select".to_owned(),
    };
    if access.read.files != RowAccess::Unrestricted {
        reads.push_str(", policy files: ");
        reads.push_str(&rows(&read.file_policies, &access.read.files));
    }
    let writes = match access.write.grants(write, Channels::INSERTED) {
        true => rows(&write.policies, &access.write.rows),
        false => "nothing: it may not insert".to_owned(),
    };
    format!("reads {reads}; writes {writes}")
}
