//! What a subquery returned.

use std::collections::HashSet;

use super::{Datum, Key, Stop, Ty};

/// The rows of a subquery, as of one reading.
#[derive(Clone, Debug, Default)]
pub struct Relation {
    rows: Vec<Vec<Option<Datum>>>,
    found: HashSet<Vec<Key>>,
    null: bool,
}

impl Relation {
    /// From the text output of each value.
    ///
    /// # Errors
    /// [`Stop::Ask`] for a value that is not understood here or that cannot be looked up by.
    pub fn read(columns: &[Ty], rows: Vec<Vec<Option<String>>>) -> Result<Self, Stop> {
        let mut relation = Self::default();
        for row in rows {
            let row = row
                .into_iter()
                .zip(columns)
                .map(|(text, ty)| text.map(|text| Datum::parse(&text, ty)).transpose())
                .collect::<Result<Vec<_>, _>>()?;
            let key: Option<Vec<Key>> = row
                .iter()
                .zip(columns)
                .map(|(datum, ty)| datum.as_ref().map(|datum| datum.key(ty)))
                .collect::<Option<Result<_, _>>>()
                .transpose()?;
            match key {
                Some(key) => {
                    relation.found.insert(key);
                }
                None => relation.null = true,
            }
            relation.rows.push(row);
        }
        Ok(relation)
    }

    /// The rows, in the order they came.
    pub fn rows(&self) -> &[Vec<Option<Datum>>] {
        &self.rows
    }

    /// Whether a row without NULLs equals these keys.
    pub fn contains(&self, key: &[Key]) -> bool {
        self.found.contains(key)
    }

    /// The distinct rows without NULLs.
    pub fn keys(&self) -> impl Iterator<Item = &[Key]> {
        self.found.iter().map(Vec::as_slice)
    }

    /// Some row has a NULL.
    pub fn has_null(&self) -> bool {
        self.null
    }
}
