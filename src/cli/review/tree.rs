//! The changes as a tree of directories and files, in the order in which it is drawn. Directories that hold nothing but another one share
//! a row with it.

use std::ops::Range;

use crate::path::Escaped;

/// A directory or a changed object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// How deep it is indented.
    pub(super) depth: usize,
    /// Its name as it is shown.
    pub(super) label: String,
    /// The change at this very path.
    pub(super) change: Option<usize>,
    /// Whether other nodes lie in it.
    pub(super) is_dir: bool,
    /// The node after the last one in it.
    pub(super) end: usize,
    /// Whether what lies in it is shown.
    pub(super) is_open: bool,
}

/// All nodes, each before what lies in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
}

type Item<'a> = (Vec<&'a [u8]>, usize);

impl Tree {
    /// Of the paths of changes; an item's number is its change.
    pub(super) fn new<'a>(paths: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut items: Vec<Item<'a>> =
            paths.enumerate().map(|(n, p)| (p.split(|b| *b == b'/').collect(), n)).collect();
        items.sort();
        let mut tree = Self::default();
        tree.add(&items, 0, 0);
        tree
    }

    fn add(&mut self, items: &[Item<'_>], level: usize, depth: usize) {
        let part = |item: &Item<'_>| item.0.get(level).copied().unwrap_or_default().to_vec();
        for group in items.chunk_by(|a, b| part(a) == part(b)) {
            let Some(first) = group.first() else { continue };
            let mut label = Escaped(&part(first)).to_string();
            let mut inner = level + 1;
            // The change at the directory's own path sorts before what lies in it.
            let own = (first.0.len() == inner).then_some(first.1);
            let rest = if own.is_some() { group.get(1..).unwrap_or_default() } else { group };
            let is_dir = !rest.is_empty();
            while own.is_none() && shares_one_directory(rest, inner) {
                let next = rest.first().and_then(|i| i.0.get(inner)).copied().unwrap_or_default();
                label.push('/');
                label.push_str(&Escaped(next).to_string());
                inner += 1;
            }
            let at = self.nodes.len();
            self.nodes.push(Node { depth, label, change: own, is_dir, end: at + 1, is_open: true });
            self.add(rest, inner, depth + 1);
            let end = self.nodes.len();
            if let Some(node) = self.nodes.get_mut(at) {
                node.end = end;
            }
        }
    }

    /// The nodes that are shown, from the top.
    pub(super) fn shown(&self) -> Vec<usize> {
        let (mut shown, mut at) = (Vec::new(), 0);
        while let Some(node) = self.nodes.get(at) {
            shown.push(at);
            at = if node.is_open { at + 1 } else { node.end };
        }
        shown
    }

    /// The changes at a node and in it.
    pub(super) fn changes(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        let range: Range<usize> = node..self.nodes.get(node).map_or(node, |n| n.end);
        self.nodes.get(range).unwrap_or_default().iter().filter_map(|n| n.change)
    }

    /// The directory that a node lies in.
    pub(super) fn parent(&self, node: usize) -> Option<usize> {
        let depth = self.nodes.get(node)?.depth;
        (0..node).rev().find(|n| self.nodes.get(*n).is_some_and(|p| p.depth < depth))
    }

    /// The node of a change.
    pub(super) fn of_change(&self, change: usize) -> Option<usize> {
        self.nodes.iter().position(|n| n.change == Some(change))
    }
}

/// Whether all items go on with the same directory, which is no change itself.
fn shares_one_directory(items: &[Item<'_>], level: usize) -> bool {
    let Some(name) = items.first().and_then(|i| i.0.get(level)) else { return false };
    items.iter().all(|i| i.0.get(level) == Some(name) && i.0.len() > level + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(tree: &Tree) -> Vec<String> {
        let line = |n: usize| {
            let node = &tree.nodes[n];
            let slash = if node.is_dir { "/" } else { "" };
            format!(
                "{}{}{slash}{}",
                "  ".repeat(node.depth),
                node.label,
                node.change.map_or(String::new(), |c| format!(" {c}"))
            )
        };
        tree.shown().into_iter().map(line).collect()
    }

    fn tree(paths: &[&str]) -> Tree {
        Tree::new(paths.iter().map(|p| p.as_bytes()))
    }

    #[test]
    fn directories_hold_their_files_and_lonely_ones_share_a_row() {
        let mut t = tree(&["a-b", "a/x/y/one", "a/x/y/two", "b/c", "top"]);
        assert_eq!(drawn(&t), ["a/x/y/", "  one 1", "  two 2", "a-b 0", "b/", "  c 3", "top 4"]);
        assert_eq!(t.changes(0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((t.parent(1), t.parent(0), t.of_change(3)), (Some(0), None, Some(5)));
        t.nodes[0].is_open = false;
        assert_eq!(drawn(&t), ["a/x/y/", "a-b 0", "b/", "  c 3", "top 4"]);
    }

    #[test]
    fn a_directory_that_changed_itself_has_its_own_row() {
        assert_eq!(drawn(&tree(&["d", "d/e/f"])), ["d/ 0", "  e/", "    f 1"]);
        assert_eq!(drawn(&tree(&[])), Vec::<String>::new());
    }

    #[test]
    fn very_deep_paths_do_not_overflow() {
        let deep = vec!["d"; 2000].join("/");
        let t = tree(&[&deep, &format!("{deep}/x")]);
        assert_eq!(t.nodes.len(), 3);
    }
}
