//! Makes a world that both sides see differently as small as it still shows that.

use super::rig::{Judged, Rig};
use super::subject::Subject;
use super::world::World;

/// How many smaller worlds are tried.
const TRIES: usize = 600;

/// A world with a difference.
pub struct Difference {
    pub world: World,
    pub judged: Judged,
}

struct Search<'a> {
    rig: &'a mut Rig,
    subject: &'a Subject,
    tries: usize,
}

/// The smallest world found.
pub async fn shrink(rig: &mut Rig, subject: &Subject, found: Difference) -> Difference {
    let mut search = Search {
        rig,
        subject,
        tries: 0,
    };
    let mut best = search.isolate(found).await;
    loop {
        let before = size(&best.world);
        best = search.policies(best).await;
        best = search.expressions(best).await;
        best = search.surroundings(best).await;
        best = search.claims(best).await;
        if search.tries >= TRIES || size(&best.world) == before {
            return best;
        }
    }
}

impl Search<'_> {
    /// The difference that a world shows, if it does.
    async fn try_one(&mut self, mut world: World) -> Option<Difference> {
        self.tries += 1;
        if self.tries > TRIES {
            return None;
        }
        let asked: usize = world.tables.iter().map(|table| table.policies.len()).sum();
        self.rig.build(&mut world).await;
        // A policy that is gone because Postgres refuses it is another world.
        if asked
            != world
                .tables
                .iter()
                .map(|table| table.policies.len())
                .sum::<usize>()
        {
            return None;
        }
        let judged = self.rig.judge(&world, self.subject).await;
        let judged = judged.into_iter().find(Judged::is_wrong)?;
        Some(Difference { world, judged })
    }

    /// Takes the first candidate that still differs.
    async fn first(&mut self, candidates: Vec<World>) -> Option<Difference> {
        for candidate in candidates {
            if let Some(found) = self.try_one(candidate).await {
                return Some(found);
            }
        }
        None
    }

    /// One table, one reader, one row.
    async fn isolate(&mut self, mut best: Difference) -> Difference {
        let (table, reader, row) = (best.judged.table, best.judged.reader, best.judged.row);
        let mut world = best.world.clone();
        world.tables = vec![world.tables.swap_remove(table)];
        best = self.try_one(world.clone()).await.unwrap_or(best);
        world.tables[0].rows.retain(|other| other.id == row);
        best = self.try_one(world.clone()).await.unwrap_or(best);
        world.readers = vec![world.readers.swap_remove(reader)];
        self.try_one(world).await.unwrap_or(best)
    }

    async fn policies(&mut self, mut best: Difference) -> Difference {
        loop {
            let mut candidates = Vec::new();
            for (t, table) in best.world.tables.iter().enumerate() {
                for p in 0..table.policies.len() {
                    let mut fewer = best.world.clone();
                    fewer.tables[t].policies.remove(p);
                    candidates.push(fewer);
                    let policy = &best.world.tables[t].policies[p];
                    if policy.roles != "public" || policy.command != "select" {
                        let mut plain = best.world.clone();
                        plain.tables[t].policies[p].roles = "public";
                        plain.tables[t].policies[p].command = "select";
                        candidates.push(plain);
                    }
                }
            }
            match self.first(candidates).await {
                Some(found) => best = found,
                None => return best,
            }
        }
    }

    async fn expressions(&mut self, mut best: Difference) -> Difference {
        loop {
            let mut candidates = Vec::new();
            for (t, table) in best.world.tables.iter().enumerate() {
                for (p, policy) in table.policies.iter().enumerate() {
                    for smaller in policy.using.smaller() {
                        let mut world = best.world.clone();
                        world.tables[t].policies[p].using = smaller;
                        candidates.push(world);
                    }
                }
            }
            candidates.sort_by_key(size);
            match self.first(candidates).await {
                Some(found) if size(&found.world) < size(&best.world) => best = found,
                _ => return best,
            }
        }
    }

    /// Columns that no policy names, rows of other tables, and their security.
    async fn surroundings(&mut self, mut best: Difference) -> Difference {
        let mut world = best.world.clone();
        for table in &mut world.tables {
            let text: String = table
                .policies
                .iter()
                .map(|policy| policy.using.to_string())
                .collect();
            let named: Vec<bool> = table
                .columns
                .iter()
                .map(|(name, _)| text.contains(&format!("{}.{name}", table.name)))
                .collect();
            let keep = |i: usize| named.get(i).copied().unwrap_or(false);
            let mut i = 0;
            table.columns.retain(|_| (keep(i), i += 1).0);
            for row in &mut table.rows {
                let mut i = 0;
                row.values.retain(|_| (keep(i), i += 1).0);
            }
            table.hidden = None;
        }
        best = self.try_one(world).await.unwrap_or(best);
        if best.world.protection != 0 {
            let mut open = best.world.clone();
            open.protection = 0;
            best = self.try_one(open).await.unwrap_or(best);
        }
        for t in 0..best.world.read.len() {
            let mut r = 0;
            while r < best.world.read[t].len() {
                let mut fewer = best.world.clone();
                fewer.read[t].remove(r);
                match self.try_one(fewer).await {
                    Some(found) => best = found,
                    None => r += 1,
                }
            }
        }
        best
    }

    async fn claims(&mut self, mut best: Difference) -> Difference {
        for r in 0..best.world.readers.len() {
            let keys: Vec<String> = best.world.readers[r]
                .claims
                .as_object()
                .map(|claims| claims.keys().cloned().collect())
                .unwrap_or_default();
            for key in keys {
                let mut fewer = best.world.clone();
                if let Some(claims) = fewer.readers[r].claims.as_object_mut()
                    && key != "role"
                    && claims.remove(&key).is_some()
                {
                    best = self.try_one(fewer).await.unwrap_or(best);
                }
            }
        }
        best
    }
}

/// How much there is to read.
fn size(world: &World) -> usize {
    let policies = world.tables.iter().flat_map(|table| &table.policies);
    let expressions: usize = policies
        .map(|policy| 10 + policy.using.size() + policy.using.to_string().len() / 40)
        .sum();
    let rows: usize = world.read.iter().map(Vec::len).sum();
    let columns: usize = world.tables.iter().map(|table| table.columns.len()).sum();
    expressions + rows + columns
}
