// SPDX-License-Identifier: Apache-2.0
//! The table for people.

use comfy_table::{CellAlignment, Table, presets};

use super::row::{Bound, Row, Spread};

const HEADINGS: [&str; 8] =
    ["bench", "case", "figure", "larder", "reference", "ratio [min, max]", "floor", "goal"];

/// The rows as a table, as wide as it needs to be.
#[must_use]
pub fn render(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(HEADINGS);
    for row in rows {
        table.add_row([
            row.bench.to_owned(),
            row.case.clone(),
            row.figure.to_owned(),
            middle(&row.larder),
            middle(&row.reference),
            spread(&row.ratios()),
            verdict(row, row.bound).unwrap_or_else(|| "reported".into()),
            verdict(row, row.goal).unwrap_or_default(),
        ]);
    }
    for column in 3..6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

fn middle(values: &[f64]) -> String {
    Spread::of(values).map_or_else(String::new, |spread| number(spread.median))
}

fn spread(values: &[f64]) -> String {
    Spread::of(values).map_or_else(String::new, |spread| {
        format!("{:.2} [{:.2}, {:.2}]", spread.median, spread.min, spread.max)
    })
}

fn verdict(row: &Row, bound: Option<Bound>) -> Option<String> {
    let bound = bound?;
    let shown = match bound {
        Bound::AtLeast(value) => format!(">= {}", plain(value)),
        Bound::AtMost(value) => format!("<= {}", plain(value)),
        Bound::Always(value) => format!("= {}", plain(value)),
    };
    let word = if row.keeps_to(bound) { "holds" } else { "MISSED" };
    Some(format!("{shown} {word}"))
}

fn plain(value: f64) -> String {
    format!("{value}")
}

/// Three digits that mean something, whatever the size.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_floor_cannot_be_overlooked() {
        let row = Row {
            bench: "s3-get",
            case: "4 KiB".into(),
            figure: "requests / CPU s",
            larder: vec![4000.0, 5000.0, 4500.0],
            reference: vec![10_000.0; 3],
            bound: Some(Bound::AtLeast(0.5)),
            goal: Some(Bound::AtLeast(0.4)),
        };
        let text = render(&[row]);
        for part in ["4500", "10000", "0.45 [0.40, 0.50]", ">= 0.5 MISSED", ">= 0.4 holds"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
