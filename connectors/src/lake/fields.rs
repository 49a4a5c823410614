//! JSON objects into columns, one row each, in one pass over their bytes.
//!
//! A record enters whole or not at all: what is wrong in its last field undoes those before. A field given
//! twice counts as given last. Fields without a column of their own are gathered, as one JSON object a row, in the
//! column `rest`: those that are not declared (if they are kept), those behind the first [`COLUMNS_MAX`] of a file, and
//! the one without a name. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::column::{Column, Kind};
use super::layout::{DeclaredColumn, DeclaredKind, Format, Layout, Undeclared};
use super::value::{ValueError, absorb, accept, scalar};

/// Inferred columns of a file; further fields go to `rest`.
const COLUMNS_MAX: usize = 1000;

/// A record whose value does not become a row.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    /// It is not JSON, or not an object.
    #[error("not a JSON object: {0}")]
    NotAnObject(#[source] serde_json::Error),
    /// A field has a value that its column cannot hold.
    #[error("field `{field}`: {error}")]
    Field {
        /// Its name.
        field: String,
        /// Why.
        error: ValueError,
    },
    /// A field that the settings do not declare, and do not allow.
    #[error("field `{0}` is not declared")]
    Undeclared(String),
}

/// Whose values a column holds.
#[derive(Debug)]
struct FieldColumn {
    name: String,
    /// `None`: inferred.
    declared: Option<DeclaredKind>,
    column: Column,
}

impl FieldColumn {
    /// The column, with `row` rows: fewer are filled up, and one more is a field given twice.
    fn next_row(&mut self, row: usize) -> &mut Column {
        self.column.truncate(row);
        self.column.fill(row);
        &mut self.column
    }
}

/// Where a field's value goes.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Column(usize),
    Rest,
    Nowhere,
}

/// The columns of objects.
#[derive(Debug)]
pub(crate) struct Fields {
    columns: Vec<FieldColumn>,
    by_name: BTreeMap<String, usize>,
    /// What becomes of fields that have no column yet. `None`: they get one.
    undeclared: Option<Undeclared>,
    /// The column after that of the last field: records have their fields in the same order, mostly.
    expected: usize,
    rest: Column,
    /// The object of the row under way that goes to `rest`, without its last brace; empty if none does.
    rest_text: String,
    rows: usize,
    /// A field that makes the row under way refused, whatever the parser says.
    refused: Option<RowError>,
}

impl Fields {
    /// No rows. The format must be one of JSON.
    pub(crate) fn new(format: &Format) -> Self {
        let (columns, undeclared): (&[DeclaredColumn], _) = match format {
            Format::Inferred => (&[], None),
            Format::Declared { columns, undeclared } => (columns, Some(*undeclared)),
            Format::Text | Format::Bytes => panic!("{format:?} has no fields"),
        };
        let columns: Vec<FieldColumn> = columns
            .iter()
            .map(|DeclaredColumn { name, kind }| FieldColumn {
                name: name.clone(),
                declared: Some(*kind),
                column: Column::new(Some(kind.kind())),
            })
            .collect();
        let by_name =
            columns.iter().enumerate().map(|(index, it)| (it.name.clone(), index)).collect();
        Self {
            columns,
            by_name,
            undeclared,
            expected: 0,
            rest: Column::new(Some(Kind::Json)),
            rest_text: String::new(),
            rows: 0,
            refused: None,
        }
    }

    /// About how many bytes it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        /// 200: a column's name twice, and what holds it.
        const COLUMN_BYTES: usize = 200;
        let columns = self.columns.iter().map(|it| it.column.memory_bytes() + COLUMN_BYTES);
        columns.sum::<usize>() + self.rest.memory_bytes()
    }

    /// Adds a row without values.
    pub(crate) fn push_null(&mut self) {
        self.rows += 1;
    }

    /// Adds the object `json` as a row.
    ///
    /// # Errors
    /// It is no object, or does not fit; nothing was added.
    pub(crate) fn push(&mut self, json: &[u8]) -> Result<(), RowError> {
        self.expected = 0;
        self.rest_text.clear();
        let mut cells = Vec::with_capacity(self.columns.len());
        let mut parser = serde_json::Deserializer::from_slice(json);
        let row = Row { fields: self, cells: &mut cells };
        let parsed = parser.deserialize_map(row).and_then(|()| parser.end());
        match self.refused.take() {
            Some(refused) => return Err(refused),
            None => parsed.map_err(RowError::NotAnObject)?,
        }
        if self.undeclared.is_none() {
            self.absorb(&cells)?;
        } else {
            self.accept(&cells)?;
        }
        if !self.rest_text.is_empty() {
            self.rest_text.push('}');
            self.rest.fill(self.rows);
            self.rest.push_text(&self.rest_text);
        }
        self.rows += 1;
        Ok(())
    }

    /// Adds cells to undeclared columns. All are read before the first is added, as that may widen its column.
    fn absorb(&mut self, cells: &[(usize, &str)]) -> Result<(), RowError> {
        let mut values = Vec::with_capacity(cells.len());
        for (index, raw) in cells {
            values.push(scalar(raw).map_err(|error| self.refusal(*index, error))?);
        }
        for ((index, raw), value) in cells.iter().zip(&values) {
            let column = self.columns[*index].next_row(self.rows);
            absorb(column, value, raw);
        }
        Ok(())
    }

    /// Adds cells to declared columns; if one does not fit, none.
    fn accept(&mut self, cells: &[(usize, &str)]) -> Result<(), RowError> {
        for (index, raw) in cells {
            let it = &mut self.columns[*index];
            let kind = it.declared.expect("where some are declared, all are");
            if let Err(error) = accept(it.next_row(self.rows), kind, raw) {
                self.columns.iter_mut().for_each(|it| it.column.truncate(self.rows));
                return Err(self.refusal(*index, error));
            }
        }
        Ok(())
    }

    fn refusal(&self, column: usize, error: ValueError) -> RowError {
        RowError::Field { field: self.columns[column].name.clone(), error }
    }

    /// Where the value of `field`, which comes next, goes.
    fn slot(&mut self, field: &str) -> Slot {
        if let Some(it) = self.columns.get(self.expected)
            && it.name == field
        {
            self.expected += 1;
            return Slot::Column(self.expected - 1);
        }
        if let Some(&index) = self.by_name.get(field) {
            self.expected = index + 1;
            return Slot::Column(index);
        }
        match self.undeclared {
            None if !field.is_empty() && self.columns.len() < COLUMNS_MAX => self.add(field),
            None | Some(Undeclared::Keep) => {
                self.rest_text.push(if self.rest_text.is_empty() { '{' } else { ',' });
                self.rest_text += &serde_json::to_string(field).expect("text is JSON");
                self.rest_text.push(':');
                Slot::Rest
            }
            Some(Undeclared::Drop) => Slot::Nowhere,
            Some(Undeclared::Reject) => {
                self.refused.get_or_insert_with(|| RowError::Undeclared(field.to_owned()));
                Slot::Nowhere
            }
        }
    }

    fn add(&mut self, field: &str) -> Slot {
        let index = self.columns.len();
        let column = Column::new(None);
        self.columns.push(FieldColumn { name: field.to_owned(), declared: None, column });
        self.by_name.insert(field.to_owned(), index);
        self.expected = index + 1;
        Slot::Column(index)
    }

    /// The columns of these rows, by the names that `layout` gives them, with what they hold. Of undeclared ones
    /// only those that had a value.
    pub(crate) fn heading(&self, layout: &Layout) -> Heading {
        let mut heading = Heading::default();
        for it in &self.columns {
            let name =
                if it.declared.is_some() { it.name.clone() } else { layout.column_of(&it.name) };
            if let Some(kind) = it.column.kind() {
                heading.columns.push(HeadingColumn {
                    field: it.name.clone(),
                    name,
                    kind,
                    is_exact_as_double: it.column.is_exact_as_double(),
                });
            }
        }
        heading.has_rest = self.undeclared == Some(Undeclared::Keep) || self.rest.rows() > 0;
        heading
    }

    /// Takes all rows out as arrays, one for each column of `heading` and, if it has it, `rest`.
    pub(crate) fn take(&mut self, heading: &Heading) -> Vec<arrow::array::ArrayRef> {
        let rows = std::mem::take(&mut self.rows);
        let mut arrays = Vec::with_capacity(heading.columns.len() + 1);
        for of in &heading.columns {
            let own = self.by_name.get(&of.field).map(|&index| &mut self.columns[index]);
            let column = match own {
                Some(own) => {
                    let fresh = Column::new(own.declared.map(DeclaredKind::kind));
                    std::mem::replace(&mut own.column, fresh)
                }
                None => Column::new(None),
            };
            arrays.push(column.into_array(of.kind, rows));
        }
        let rest = std::mem::replace(&mut self.rest, Column::new(Some(Kind::Json)));
        if heading.has_rest {
            arrays.push(rest.into_array(Kind::Json, rows));
        }
        arrays
    }
}

/// Which columns the objects of a flush have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heading {
    /// In the order in which their fields first occurred.
    pub(crate) columns: Vec<HeadingColumn>,
    /// Whether fields without a column were kept.
    pub(crate) has_rest: bool,
}

/// A column of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeadingColumn {
    /// The field whose values it holds.
    field: String,
    /// What the file calls it.
    pub(crate) name: String,
    /// What it holds.
    pub(crate) kind: Kind,
    /// Whether integers may become doubles.
    is_exact_as_double: bool,
}

impl Heading {
    /// Adds the columns of another file of the flush: all files of a flush have the same.
    pub(crate) fn unite(&mut self, other: Self) {
        self.has_rest |= other.has_rest;
        for theirs in other.columns {
            let Some(ours) = self.columns.iter_mut().find(|it| it.field == theirs.field) else {
                self.columns.push(theirs);
                continue;
            };
            let is_exact = ours.is_exact_as_double && theirs.is_exact_as_double;
            ours.kind = match ours.kind.union(theirs.kind) {
                Kind::Double if !is_exact && ours.kind != theirs.kind => Kind::Json,
                union => union,
            };
            ours.is_exact_as_double = is_exact;
        }
    }
}

/// Walks over one object and collects its cells: the column, and the value as it is written.
struct Row<'a, 'de> {
    fields: &'a mut Fields,
    cells: &'a mut Vec<(usize, &'de str)>,
}

impl<'de> Visitor<'de> for Row<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(slot) = map.next_key_seed(Name(self.fields))? {
            let raw: &'de RawValue = map.next_value()?;
            match slot {
                Slot::Column(index) => self.cells.push((index, raw.get())),
                Slot::Rest => self.fields.rest_text += raw.get(),
                Slot::Nowhere => {}
            }
        }
        Ok(())
    }
}

/// Finds the slot of a field by its name, without copying it.
struct Name<'a>(&'a mut Fields);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Slot;

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<Slot, D::Error> {
        name.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name<'_> {
    type Value = Slot;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Slot, E> {
        Ok(self.0.slot(name))
    }
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
