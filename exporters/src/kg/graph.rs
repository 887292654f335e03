//! The embedded graph: oxigraph in memory.

use std::fmt;

use homeostat_pipeline::finding::Finding;
use homeostat_pipeline::ledger::Replay;
use metrics::{counter, gauge};
use oxigraph::model::{GraphNameRef, Term};
use oxigraph::sparql::{QueryResults, SparqlEvaluator};
use oxigraph::store::Store;

use super::describe::Aggregate;
use super::index::{Act, Index, Shape};

/// Rows that an answer holds at most.
const ROWS_MAX: usize = 10_000;

/// A graph in memory, rebuilt from the ledger.
pub struct Graph {
    store: Store,
    index: Index,
}

/// What a query answers: terms as text, IRIs without brackets and literals without type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The variables; `answer` for ASK; `subject`, `predicate`, `object` for CONSTRUCT and DESCRIBE.
    pub columns: Vec<String>,
    /// One value per column, empty where it is unbound. At most 10,000.
    pub rows: Vec<Vec<String>>,
}

impl Graph {
    /// An empty one.
    ///
    /// # Errors
    /// Never in practice.
    pub fn new(shape: Shape) -> anyhow::Result<Graph> {
        Ok(Graph { store: Store::new()?, index: Index::new(shape) })
    }

    /// The graph that the whole ledger makes, shaped as by default.
    ///
    /// # Errors
    /// Those of the ledger.
    pub fn rebuild(ledger: &dyn Replay) -> anyhow::Result<Graph> {
        Graph::rebuild_as(Shape::default(), ledger)
    }

    /// The graph that the whole ledger makes.
    ///
    /// # Errors
    /// Those of the ledger.
    pub fn rebuild_as(shape: Shape, ledger: &dyn Replay) -> anyhow::Result<Graph> {
        let mut graph = Graph::new(shape)?;
        ledger.replay(u64::MAX, &mut |entry| graph.apply(&entry.finding))?;
        Ok(graph)
    }

    /// Takes one finding in. One that it has seen, or an older version, changes nothing.
    ///
    /// # Errors
    /// Never in practice.
    pub fn apply(&mut self, finding: &Finding) -> anyhow::Result<()> {
        for act in self.index.apply(finding) {
            match act {
                Act::Put(aggregate) => self.put(&aggregate)?,
                Act::Drop(graph) => {
                    self.store.remove_named_graph(graph.as_ref())?;
                    counter!("homeostat_kg_graphs_total", "act" => "drop").increment(1);
                }
            }
        }
        Ok(())
    }

    fn put(&self, aggregate: &Aggregate) -> anyhow::Result<()> {
        let graph = &aggregate.graph;
        let mut transaction = self.store.start_transaction()?;
        transaction.clear_graph(GraphNameRef::from(graph.as_ref()))?;
        transaction.extend(aggregate.triples.iter().map(|triple| triple.as_ref().in_graph(graph.as_ref())));
        transaction.commit()?;
        counter!("homeostat_kg_graphs_total", "act" => "put").increment(1);
        Ok(())
    }

    /// Says in the metrics how large it is.
    pub(super) fn measure(&self) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge of quads")]
        if let Ok(quads) = self.store.len() {
            gauge!("homeostat_kg_quads").set(quads as f64);
        }
    }

    /// Answers a SPARQL 1.1 query. Patterns outside GRAPH see all graphs as one.
    ///
    /// # Errors
    /// The query has a mistake, which the error names.
    pub fn query(&self, sparql: &str) -> anyhow::Result<Answer> {
        let mut query = SparqlEvaluator::new().parse_query(sparql)?;
        query.dataset_mut().set_default_graph_as_union();
        Ok(match query.on_store(&self.store).execute()? {
            QueryResults::Boolean(is_so) => {
                Answer { columns: vec!["answer".to_owned()], rows: vec![vec![is_so.to_string()]] }
            }
            QueryResults::Solutions(solutions) => {
                let columns: Vec<_> = solutions.variables().to_vec();
                let rows = solutions
                    .take(ROWS_MAX)
                    .map(|solution| {
                        let solution = solution?;
                        Ok(columns
                            .iter()
                            .map(|name| solution.get(name).map(plain).unwrap_or_default())
                            .collect())
                    })
                    .collect::<anyhow::Result<_>>()?;
                Answer { columns: columns.iter().map(|name| name.as_str().to_owned()).collect(), rows }
            }
            QueryResults::Graph(triples) => {
                let rows = triples
                    .take(ROWS_MAX)
                    .map(|triple| {
                        let triple = triple?;
                        let subject = plain(&Term::from(triple.subject));
                        Ok(vec![subject, triple.predicate.as_str().to_owned(), plain(&triple.object)])
                    })
                    .collect::<anyhow::Result<_>>()?;
                Answer { columns: ["subject", "predicate", "object"].map(str::to_owned).to_vec(), rows }
            }
        })
    }

    /// All of it as sorted N-Quads: the same ledger gives the same bytes.
    ///
    /// # Errors
    /// Never in practice.
    pub fn nquads(&self) -> anyhow::Result<String> {
        nquads(&self.store)
    }
}

/// The content of `store` as sorted N-Quads.
pub(super) fn nquads(store: &Store) -> anyhow::Result<String> {
    let mut lines: Vec<String> =
        store.iter().map(|quad| Ok(format!("{} .\n", quad?))).collect::<anyhow::Result<_>>()?;
    lines.sort_unstable();
    Ok(lines.concat())
}

fn plain(term: &Term) -> String {
    match term {
        Term::NamedNode(node) => node.as_str().to_owned(),
        Term::BlankNode(node) => node.to_string(),
        Term::Literal(literal) => literal.value().to_owned(),
    }
}

/// Rows as blocks of `column  value`, for people: the columns of a walk are too many for a terminal's width.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.columns.iter().map(String::len).max().unwrap_or(0);
        for (number, row) in self.rows.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            for (column, value) in self.columns.iter().zip(row) {
                writeln!(f, "  {column:width$}  {value}")?;
            }
        }
        Ok(())
    }
}
