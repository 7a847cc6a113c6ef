//! The programs of the tables and roles that somebody subscribes with, made once each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::program::{Judged, Program};
use crate::postgres::catalog::{Access, Catalog, RoleAccess, Table};

/// What one role may see of one table.
#[derive(Debug)]
pub struct Rule {
    /// The role.
    pub role: Arc<str>,
    /// What it may read.
    pub access: Access,
    /// All policies that apply, as one.
    pub program: Program,
}

/// The rules of one reading of the catalog. Shared, so that those who subscribe and those who judge mean the same.
#[derive(Debug, Default)]
pub struct Rules {
    /// Postgres is asked about every row.
    always_ask: bool,
    made: Mutex<Made>,
}

/// By table and role.
type Made = HashMap<(u32, Arc<str>), Arc<Rule>>;

impl Rules {
    /// None made yet. Unless `in_memory`, Postgres is asked about every row that policies restrict.
    pub fn new(in_memory: bool) -> Self {
        Self {
            always_ask: !in_memory,
            made: Mutex::default(),
        }
    }

    /// The rule of a role on a table; `None` for a table that the role's access does not know.
    pub fn rule(
        &self,
        table: &Table,
        role: &Arc<str>,
        access: &RoleAccess,
        catalog: &Catalog,
    ) -> Option<Arc<Rule>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rule) = made.get(&(table.oid, Arc::clone(role))) {
            return Some(Arc::clone(rule));
        }
        let callable = &access.functions;
        let access = access.tables.get(&table.oid)?.clone();
        let mut program = Program::new(table, &access, callable, catalog);
        if self.always_ask {
            program = program.asking("policy.in_memory is off");
        }
        let rule = Arc::new(Rule {
            role: Arc::clone(role),
            program,
            access,
        });
        for policy in rule.program.policies() {
            if let Judged::Asks(why) = &policy.verdict {
                tracing::debug!(table = %table.name, %role, policy = policy.name, ?why, "Postgres is asked");
            }
        }
        made.insert((table.oid, Arc::clone(role)), Arc::clone(&rule));
        Some(rule)
    }
}
