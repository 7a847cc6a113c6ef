//! The programs of the tables and roles that somebody subscribes with, made once each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::program::{Judged, Program};
use crate::postgres::catalog::{Access, Catalog, RoleAccess, RowAccess, Table};

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

/// Which policies of `realtime.messages` are meant ([`Catalog::channels`]): the table is there twice, under one oid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Those for SELECT.
    Read,
    /// Those for INSERT.
    Write,
}

/// By table and role, and by the side where the table is that of private channels.
type Made = HashMap<(u32, Option<Side>, Arc<str>), Arc<Rule>>;

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
        let on = access.tables.get(&table.oid)?;
        Some(self.made((table, None), role, (on, access), catalog))
    }

    /// What policy files alone say of a role on a table, for rows that Postgres itself has let through; `None` where they say
    /// nothing.
    pub fn files(
        &self,
        table: &Table,
        role: &Arc<str>,
        access: &RoleAccess,
        catalog: &Catalog,
    ) -> Option<Arc<Rule>> {
        let on = access.tables.get(&table.oid)?;
        if on.files == RowAccess::Unrestricted {
            return None;
        }
        let on = Access {
            rows: RowAccess::Unrestricted,
            ..on.clone()
        };
        let program = Program::new(table, &on, &access.functions, catalog);
        let program = match self.always_ask {
            true => program.asking("policy.in_memory is off"),
            false => program,
        };
        Some(Arc::new(Rule {
            role: Arc::clone(role),
            program,
            access: on,
        }))
    }

    /// What a role may do with a side of `realtime.messages`; `None` where there is no such table, or none that the
    /// role's access knows.
    pub fn channel(
        &self,
        side: Side,
        role: &Arc<str>,
        access: &RoleAccess,
        catalog: &Catalog,
    ) -> Option<(Arc<Table>, Arc<Rule>)> {
        let (tables, on) = (catalog.channels.as_ref()?, access.channels.as_ref()?);
        let (table, on) = match side {
            Side::Read => (&tables.read, &on.read),
            Side::Write => (&tables.write, &on.write),
        };
        let rule = self.made((table, Some(side)), role, (on, access), catalog);
        Some((Arc::clone(table), rule))
    }

    fn made(
        &self,
        (table, side): (&Table, Option<Side>),
        role: &Arc<str>,
        (on, access): (&Access, &RoleAccess),
        catalog: &Catalog,
    ) -> Arc<Rule> {
        let key = (table.oid, side, Arc::clone(role));
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rule) = made.get(&key) {
            return Arc::clone(rule);
        }
        let mut program = Program::new(table, on, &access.functions, catalog);
        if self.always_ask {
            program = program.asking("policy.in_memory is off");
        }
        let rule = Arc::new(Rule {
            role: Arc::clone(role),
            program,
            access: on.clone(),
        });
        for policy in rule.program.policies() {
            if let Judged::Asks(why) = &policy.verdict {
                tracing::debug!(table = %table.name, ?side, %role, policy = policy.name, ?why, "Postgres is asked");
            }
        }
        made.insert(key, Arc::clone(&rule));
        rule
    }
}
