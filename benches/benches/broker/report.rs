//! The results, as Markdown.

use std::io;

use crate::{
    Round, Size,
    idle::{self, Idle},
    latency::{Trips, Visits},
    load::LOADS,
    subject::Kind,
};

/// A column for each broker, ours first, and one for what is aimed at.
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

/// The figure in the middle.
fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures = Vec::from_iter(figures);
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// With as many digits as mean anything.
fn short(figure: f64) -> String {
    match figure {
        figure if figure < 10.0 => format!("{figure:.2}"),
        figure if figure < 100.0 => format!("{figure:.1}"),
        figure => format!("{figure:.0}"),
    }
}

impl Table {
    pub(crate) fn new(kinds: &[Kind]) -> Self {
        let names = kinds.iter().map(|kind| kind.name().to_owned());
        let header = [String::new()].into_iter().chain(names).chain(["aim".to_owned()]);
        Self { header: header.collect(), rows: Vec::new(), notes: Vec::new() }
    }

    fn row(&mut self, name: &str, figures: impl Iterator<Item = String>, aim: &str) {
        let row = [name.to_owned()].into_iter().chain(figures).chain([aim.to_owned()]);
        self.rows.push(row.collect());
    }

    /// What a delivery costs, and what the load was like.
    pub(crate) fn loads(&mut self, rounds: &[Vec<Round>], wanted: impl Fn(&str) -> bool) {
        let loads = LOADS.iter().filter(|load| wanted(load.name));
        for (index, load) in loads.enumerate() {
            let all = |round: &Vec<Round>, figure: fn(&Round, usize) -> f64| {
                median(round.iter().map(|one| figure(one, index)))
            };
            let each = |figure: fn(&Round, usize) -> f64| {
                rounds.iter().map(move |round| all(round, figure))
            };
            let costs = each(|one, index| one.loads[index].cost).map(short);
            self.row(&format!("{}, µs", load.name), costs, &format!("≤ {}", load.aim));
            let rates = each(|one, index| one.loads[index].rate / 1e3).map(short);
            let shares = each(|one, index| one.loads[index].generator * 100.0).map(short);
            let lost = rounds.iter().map(|round| {
                let lost = round.iter().map(|one| one.loads[index].lost).sum::<usize>();
                if lost > 0 { format!(", {lost} lost") } else { String::new() }
            });
            let notes = rates.zip(shares).zip(lost);
            let notes: Vec<_> = notes
                .map(|((rate, share), lost)| format!("{rate} k/s at {share} %{lost}"))
                .collect();
            self.notes.push(format!("{}: {}", load.name, notes.join("; ")));
        }
        if rounds.iter().flatten().all(|round| round.loads.is_empty()) {
            return;
        }
        let memory = rounds.iter().map(|round| median(round.iter().map(|one| one.after as f64)));
        self.row("resident after that, MB", memory.map(|bytes| short(bytes / 1e6)), "≤ 16");
    }

    /// One message at a time.
    pub(crate) fn latency(&mut self, rounds: &[Vec<Round>]) {
        if rounds.iter().flatten().any(|round| round.trips.is_empty()) {
            return;
        }
        let trips = |flooded: usize, figure: fn(&Trips) -> f64| {
            rounds
                .iter()
                .map(move |round| median(round.iter().map(|one| figure(&one.trips[flooded]))))
        };
        for (flooded, name, aim) in
            [(0, "there and back on one core", "≤ 20 / 30"), (1, "the same beside a flood", "")]
        {
            let both = trips(flooded, |trips| trips.p50).zip(trips(flooded, |trips| trips.p99));
            let cells = both.map(|(p50, p99)| format!("{} / {}", short(p50), short(p99)));
            self.row(&format!("{name}, p50 / p99, µs"), cells, aim);
        }
    }

    /// Connections that come and go.
    pub(crate) fn visits(&mut self, rounds: &[Vec<Round>]) {
        if rounds.iter().flatten().any(|round| round.visits.is_none()) {
            return;
        }
        let visits = |figure: fn(&Visits) -> f64| {
            rounds.iter().map(move |round| {
                median(round.iter().filter_map(|one| one.visits.as_ref()).map(figure))
            })
        };
        let rates = visits(|visits| visits.rate / 1e3).map(short);
        self.row("new connections, thousands a second", rates, "");
        self.row(
            "a connection that comes and goes, µs",
            visits(|visits| visits.cost).map(short),
            "",
        );
    }

    /// Connections that do nothing: measures them, too.
    pub(crate) fn idle(&mut self, kinds: &[Kind], size: Size) -> io::Result<()> {
        let idle: io::Result<Vec<_>> = kinds.iter().map(|kind| idle::measure(kind, size)).collect();
        let idle = idle?;
        // What mosquitto needs is what is aimed at.
        let most = |figure: fn(&Idle) -> f64| {
            idle.get(1).map_or_else(String::new, |idle| format!("< {:.0}", figure(idle)))
        };
        let bytes = |figure: fn(&Idle) -> f64| idle.iter().map(figure).map(|it| format!("{it:.0}"));
        self.row("idle connection, bytes", bytes(|it| it.connected), &most(|it| it.connected));
        let with = most(|it| it.subscribed);
        self.row("the same with a subscription, bytes", bytes(|it| it.subscribed), &with);
        let Some(ours) = idle.first() else { return Ok(()) };
        self.notes.push(format!(
            "an idle connection of transport-tokio: {:.0} bytes are the connection, {:.0} the \
             session, {:.0} a subscription",
            ours.accepted,
            ours.connected - ours.accepted,
            ours.subscribed - ours.connected,
        ));
        Ok(())
    }

    pub(crate) fn print(&self) {
        let line = |cells: &[String]| println!("| {} |", cells.join(" | "));
        line(&self.header);
        println!("|---|{}", "---:|".repeat(self.header.len() - 1));
        self.rows.iter().for_each(|row| line(row));
        println!("\nDeliveries a second, and which share of a core made the load:\n");
        self.notes.iter().for_each(|note| println!("- {note}"));
    }
}
