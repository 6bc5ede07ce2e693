//! Columns of text, aligned.

/// Two spaces between columns, nothing after the last. Line breaks in cells become spaces.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let clean = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<Vec<String>> = std::iter::once(header.iter().map(|cell| clean(cell)).collect())
        .chain(
            rows.iter()
                .map(|row| row.iter().map(|cell| clean(cell)).collect()),
        )
        .collect();
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            row.push_str(cell);
            row.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_align() {
        let rows = vec![
            vec!["a".to_owned(), "é".to_owned(), String::new()],
            vec!["long-name".to_owned(), "x\ny".to_owned(), "z".to_owned()],
        ];
        assert_eq!(
            table(&["NAME", "B", "C"], &rows),
            "NAME       B    C\na          é\nlong-name  x y  z\n"
        );
    }
}
