//! The three ways to print: tables for people, JSON and YAML for programs.

use super::{client::CliError, show::Show};
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{self, Write};

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// JSON: lists are arrays, whose field names are those of the admin interface.
    Json,
    /// The same as YAML.
    Yaml,
}

impl Output {
    /// Prints one thing.
    pub fn one<T: Show + Serialize>(self, value: &T, out: &mut impl Write) -> Result<(), CliError> {
        match self {
            Output::Table => out.write_all(value.show().as_bytes())?,
            _ => self.data(value, out)?,
        }
        Ok(())
    }

    /// Prints a list; an empty one says so.
    pub fn list<T: Row + Serialize>(self, rows: &[T], out: &mut impl Write) -> Result<(), CliError> {
        match self {
            Output::Table => out.write_all(table(rows).as_bytes())?,
            _ => self.data(&rows, out)?,
        }
        Ok(())
    }

    /// Prints one row of a list that has no end: no heading, one line; a YAML document of its own.
    pub fn line<T: Row + Serialize>(self, row: &T, out: &mut impl Write) -> Result<(), CliError> {
        match self {
            Output::Table => writeln!(out, "{}", row.cells().join("  "))?,
            Output::Json => {
                serde_json::to_writer(&mut *out, row).map_err(io::Error::from)?;
                writeln!(out)?;
            }
            Output::Yaml => {
                writeln!(out, "---")?;
                serde_yaml_ng::to_writer(out, row).map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    /// Prints data that has no table of its own; JSON unless YAML is asked for.
    pub fn data<T: Serialize>(self, value: &T, out: &mut impl Write) -> Result<(), CliError> {
        match self {
            Output::Yaml => serde_yaml_ng::to_writer(out, value).map_err(io::Error::other)?,
            Output::Json | Output::Table => {
                serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
                writeln!(out)?;
            }
        }
        Ok(())
    }
}

/// One row of a table.
pub trait Row {
    /// The headings.
    const HEAD: &'static [&'static str];
    /// What is said in place of a table without rows.
    const EMPTY: &'static str;

    /// As many cells as there are headings.
    fn cells(&self) -> Vec<String>;
}

/// Aligned columns, two spaces apart, nothing else; a line break at the end. No rows are said in words.
pub fn table<T: Row>(rows: &[T]) -> String {
    if rows.is_empty() {
        return format!("{}\n", T::EMPTY);
    }
    columns(Some(T::HEAD), rows.iter().map(Row::cells))
}

/// Rows as aligned columns, under headings if there are any.
pub fn columns(head: Option<&[&str]>, rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(head) = head {
        table.set_header(head);
    }
    rows.for_each(|row| {
        table.add_row(row);
    });
    table.column_iter_mut().for_each(|c| {
        c.set_padding((0, 2));
    });
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
