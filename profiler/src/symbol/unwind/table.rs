//! A file's unwind table, in the layout that the kernel's programs search.

use std::collections::HashMap;

use profiler_common::unwind::{BLOCK_ENTRIES, BLOCK_ROWS, LOW_MASK, PAGE_SHIFT, Rule, search};

/// Most rows of one page of code: they lie in one block, and one is kept for the page's begin.
const MAX_PAGE_ROWS: usize = BLOCK_ROWS - 1;
/// Most pages of a table: 1 GiB of code.
const MAX_PAGES: u64 = 1 << 18;
/// [`Rule::NONE`] as a rule's number.
pub const NO_RULE: u32 = 0;

/// Rows of a file by offset in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Page of the first index entry.
    pub first_page: u32,
    /// Index entries.
    pub pages: u32,
    /// Index blocks, then blocks of rows, whose rules are indexes of `rules`.
    pub blocks: Vec<[u32; BLOCK_ROWS]>,
    /// Rules that occur, the first being [`Rule::NONE`].
    pub rules: Vec<Rule>,
    /// Pages whose rows are not all kept.
    pub crowded: u32,
}

impl Table {
    /// The rule for the code at a file offset.
    pub fn rule(&self, offset: u64) -> Rule {
        self.row(offset)
            .and_then(|row| self.rules.get((row >> PAGE_SHIFT) as usize))
            .copied()
            .unwrap_or(Rule::NONE)
    }

    fn row(&self, offset: u64) -> Option<u32> {
        let page = u32::try_from(offset >> PAGE_SHIFT).ok()?;
        let index = page.checked_sub(self.first_page).filter(|index| *index < self.pages)?;
        let entries = self.blocks.get((index / BLOCK_ENTRIES) as usize)?;
        let entry = (index % BLOCK_ENTRIES * 2) as usize;
        let (block, rows) = (*entries.get(entry)?, *entries.get(entry + 1)?);
        if rows & 0xffff == 0 {
            return None;
        }
        let block = self.blocks.get(block as usize)?;
        Some(search(block, rows >> 16, rows & 0xffff, offset as u32 & LOW_MASK))
    }

    /// The table as numbers in a row, for [`Table::decode`].
    pub fn encode(&self) -> Vec<u8> {
        let head = [self.first_page, self.pages, self.crowded, self.blocks.len() as u32];
        let rules = self.rules.iter().flat_map(|rule| {
            let bytes = u32::from_ne_bytes([rule.cfa, rule.register, rule.ra, rule.saved]);
            [
                bytes,
                rule.cfa_offset as u32,
                rule.bp_offset as u32,
                rule.bx_offset as u32,
            ]
        });
        let words = head
            .into_iter()
            .chain(self.blocks.iter().flatten().copied())
            .chain(rules);
        words.flat_map(u32::to_ne_bytes).collect()
    }

    /// What [`Table::encode`] made. It may come from a parser that a hostile file has taken over: nothing in a table that
    /// is accepted leads out of it, which the kernel's programs rely on to stay among the rows of its file.
    pub fn decode(bytes: &[u8]) -> Option<Table> {
        let (words, []) = bytes.as_chunks::<4>() else {
            return None;
        };
        let words: Vec<u32> = words.iter().map(|word| u32::from_ne_bytes(*word)).collect();
        let (&[first_page, pages, crowded, count], rest) = words.split_first_chunk::<4>()?;
        let (blocks, rules) = rest.split_at_checked((count as usize).checked_mul(BLOCK_ROWS)?)?;
        let (rules, []) = rules.as_chunks::<4>() else {
            return None;
        };
        let table = Table {
            first_page,
            pages,
            blocks: blocks.as_chunks::<BLOCK_ROWS>().0.to_vec(),
            rules: rules
                .iter()
                .map(|[bytes, cfa_offset, bp_offset, bx_offset]| {
                    let [cfa, register, ra, saved] = bytes.to_ne_bytes();
                    Rule {
                        cfa,
                        register,
                        ra,
                        saved,
                        cfa_offset: *cfa_offset as i32,
                        bp_offset: *bp_offset as i32,
                        bx_offset: *bx_offset as i32,
                    }
                })
                .collect(),
            crowded,
        };
        table.holds().then_some(table)
    }

    /// Whether nothing in it leads out of it.
    fn holds(&self) -> bool {
        let bounded = u64::from(self.pages) <= MAX_PAGES && self.index_blocks() <= self.blocks.len();
        bounded
            && (0..self.pages as usize).all(|index| {
                let (per_block, entry) = (BLOCK_ENTRIES as usize, index % BLOCK_ENTRIES as usize * 2);
                let entries = self.blocks.get(index / per_block).map_or(&[][..], |block| block);
                let Some(&[block, rows]) = entries.get(entry..entry + 2) else {
                    return false;
                };
                let (from, count) = ((rows >> 16) as usize, (rows & 0xffff) as usize);
                let rows = self
                    .blocks
                    .get(block as usize)
                    .and_then(|block| block.get(from..from + count));
                // No rows: the entry is not followed.
                count == 0
                    || rows.is_some_and(|rows| rows.iter().all(|row| ((row >> PAGE_SHIFT) as usize) < self.rules.len()))
            })
    }

    /// How many of the blocks, from the first, are the index's.
    pub fn index_blocks(&self) -> usize {
        self.pages.div_ceil(BLOCK_ENTRIES) as usize
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(self.blocks.as_slice()) + size_of_val(self.rules.as_slice())
    }

    /// Number of rows, those at the pages' begins included.
    pub fn rows(&self) -> u64 {
        (0..self.pages)
            .filter_map(|index| {
                let entries = self.blocks.get((index / BLOCK_ENTRIES) as usize)?;
                Some(u64::from(
                    entries.get((index % BLOCK_ENTRIES * 2 + 1) as usize)? & 0xffff,
                ))
            })
            .sum()
    }

    /// Makes a table of rows `(file offset, rule)` that are sorted by offset. Each is in force up to the next.
    /// `None` when they reach over more code than a table can have.
    pub fn build(rows: &[(u32, Rule)]) -> Option<Table> {
        let mut table = Table {
            rules: vec![Rule::NONE],
            ..Table::default()
        };
        let (Some((first, _)), Some((last, _))) = (rows.first(), rows.last()) else {
            return Some(table);
        };
        table.first_page = first >> PAGE_SHIFT;
        table.pages = (last >> PAGE_SHIFT) - table.first_page + 1;
        if u64::from(table.pages) > MAX_PAGES {
            return None;
        }
        let mut filler = Filler {
            numbers: HashMap::from([(Rule::NONE, NO_RULE)]),
            last: (Rule::NONE, NO_RULE),
            used: BLOCK_ROWS,
            page: Vec::new(),
            table,
        };
        filler.index();
        filler.fill(rows);
        Some(filler.table)
    }
}

struct Filler {
    numbers: HashMap<Rule, u32>,
    last: (Rule, u32),
    /// Rows taken of the last block.
    used: usize,
    page: Vec<u32>,
    table: Table,
}

impl Filler {
    fn index(&mut self) {
        let blocks = self.table.index_blocks();
        self.table.blocks.resize(blocks, [0; BLOCK_ROWS]);
    }

    fn fill(&mut self, rows: &[(u32, Rule)]) {
        let mut rows = rows.iter().peekable();
        let mut before = NO_RULE;
        for index in 0..self.table.pages {
            let page = self.table.first_page + index;
            self.page.clear();
            self.page.push(before << PAGE_SHIFT);
            while let Some((offset, rule)) = rows.next_if(|(offset, _)| offset >> PAGE_SHIFT == page) {
                let number = self.number(rule);
                if number == before {
                    continue;
                }
                before = number;
                let row = number << PAGE_SHIFT | offset & LOW_MASK;
                match self.page.last_mut() {
                    // At the page's begin, or twice at one place: the later one.
                    Some(last) if *last & LOW_MASK == row & LOW_MASK => *last = row,
                    _ => self.page.push(row),
                }
            }
            self.close(index);
        }
    }

    /// Puts the page's rows into a block that has room for them.
    fn close(&mut self, index: u32) {
        if matches!(self.page.as_slice(), [only] if *only >> PAGE_SHIFT == NO_RULE) {
            return;
        }
        if self.page.len() > MAX_PAGE_ROWS {
            self.table.crowded += 1;
            self.page.truncate(MAX_PAGE_ROWS - 1);
            let at = self.page.last().map_or(0, |row| row & LOW_MASK);
            // What follows is not known.
            self.page.push(NO_RULE << PAGE_SHIFT | (at + 1).min(LOW_MASK));
        }
        if self.used + self.page.len() > BLOCK_ROWS {
            self.table.blocks.push([0; BLOCK_ROWS]);
            self.used = 0;
        }
        let number = self.table.blocks.len() - 1;
        if let Some(block) = self.table.blocks.last_mut()
            && let Some(to) = block.get_mut(self.used..self.used + self.page.len())
        {
            to.copy_from_slice(&self.page);
        }
        let entry = (index % BLOCK_ENTRIES * 2) as usize;
        if let Some(entries) = self.table.blocks.get_mut((index / BLOCK_ENTRIES) as usize)
            && let Some([block, rows]) = entries.get_mut(entry..entry + 2)
        {
            // Both far below 2^16.
            *block = number as u32;
            *rows = (self.used as u32) << 16 | self.page.len() as u32;
        }
        self.used += self.page.len();
    }

    fn number(&mut self, rule: &Rule) -> u32 {
        if self.last.0 == *rule {
            return self.last.1;
        }
        /// Rules of one file; their number has to fit above a row's address.
        const MAX_RULES: usize = 1 << (32 - PAGE_SHIFT);
        let Filler { numbers, table, .. } = self;
        let next = table.rules.len();
        let number = match numbers.get(rule) {
            Some(number) => *number,
            None if next >= MAX_RULES => NO_RULE,
            None => {
                let number = next as u32;
                numbers.insert(*rule, number);
                table.rules.push(*rule);
                number
            }
        };
        self.last = (*rule, number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::unwind::cfa;

    fn rule(offset: i32) -> Rule {
        Rule {
            cfa: cfa::SP,
            cfa_offset: offset,
            ..Rule::NONE
        }
    }

    /// Make sure that a table comes back as it was, and that one that leads out of itself, anywhere, is refused.
    #[test]
    fn on_its_way() {
        let rows: Vec<_> = (0..5000)
            .map(|index| (index * 7, rule(8 * (index % 5) as i32)))
            .collect();
        let table = Table::build(&rows).unwrap();
        let good = table.encode();
        assert_eq!(Table::decode(&good), Some(table));
        assert_eq!(Table::decode(&good[..good.len() - 4]), None);
        assert_eq!(Table::decode(&good[1..]), None);
        assert_eq!(Table::decode(&[]), None);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x80;
            if let Some(table) = Table::decode(&bad) {
                for offset in (0..35_000).step_by(501).chain([u64::MAX]) {
                    _ = table.rule(offset);
                }
            }
        }
        let mut far = good;
        far[16..20].copy_from_slice(&1000u32.to_ne_bytes());
        assert_eq!(Table::decode(&far), None);
    }

    /// Make sure that each offset finds the row that is in force there, within pages, across them and across blocks, as
    /// a plain search of the sorted rows does.
    #[test]
    fn every_offset() {
        let mut rows = Vec::new();
        let mut at = 0x12_3450;
        let mut seed = 7u32;
        while at < 0x12_3450 + 300 * 4096 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let rule = if seed >> 28 == 0 {
                Rule::NONE
            } else {
                rule((seed >> 20 & 0xf8) as i32)
            };
            rows.push((at, rule));
            at += if seed >> 16 & 0xff == 0 {
                9000
            } else {
                1 + (seed >> 9 & 31)
            };
        }
        let table = Table::build(&rows).unwrap();
        assert!(table.blocks.len() > 3, "{}", table.blocks.len());
        assert_eq!(table.crowded, 0);
        for offset in (0x12_3000..at + 8192).step_by(3) {
            let after = rows.partition_point(|(from, _)| *from <= offset);
            let expected = after.checked_sub(1).map_or(Rule::NONE, |index| rows[index].1);
            // Beyond the last row's page nothing is known.
            let last = rows.last().unwrap().0 >> PAGE_SHIFT;
            let expected = if offset >> PAGE_SHIFT > last {
                Rule::NONE
            } else {
                expected
            };
            assert_eq!(table.rule(u64::from(offset)), expected, "{offset:#x}");
        }
        assert_eq!(table.rule(u64::MAX), Rule::NONE);
        assert_eq!(table.rule(0), Rule::NONE);
    }

    /// Make sure that a page with a row at each of its bytes is cut and said so, and that the next page is not harmed.
    #[test]
    fn crowded_page() {
        let rows: Vec<_> = (0..8192)
            .map(|at| (at, rule(if at < 4096 { at as i32 * 8 } else { 8 })))
            .collect();
        let table = Table::build(&rows).unwrap();
        assert_eq!(table.crowded, 1);
        assert_eq!(table.rule(100), rule(800));
        assert_eq!(table.rule(4000), Rule::NONE);
        assert_eq!(table.rule(5000), rule(8));
    }

    /// Make sure that no rows make an empty table, and that rows over too much code make none.
    #[test]
    fn extremes() {
        assert_eq!(Table::build(&[]).unwrap().rule(5), Rule::NONE);
        assert!(Table::build(&[(0, rule(8)), (u32::MAX, rule(8))]).is_none());
    }
}
