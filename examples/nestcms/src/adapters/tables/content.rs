//! Which column holds which field.

use super::{Cell, Cells, Column, Table, Type, text};
use crate::domain::{
    content::{Article, Contract, Earning, Profile, Project},
    money::Money,
};

impl Table for Profile {
    const NAME: &'static str = "users";
    const COLUMNS: &'static [Column] = &[
        ("email", Type::Text),
        ("name", Type::Text),
        ("role", Type::Text),
    ];
    const CONSTANTS: &'static [(&'static str, &'static str)] = &[("password_hash", "'!'")];

    fn cells(&self) -> Vec<Cell> {
        vec![text(&self.email), text(&self.name), text(&self.role)]
    }

    fn read(cells: &mut Cells) -> Result<Self, String> {
        Ok(Self {
            email: cells.text()?,
            name: cells.text()?,
            role: cells.text()?,
        })
    }
}

impl Table for Project {
    const NAME: &'static str = "projects";
    const COLUMNS: &'static [Column] = &[
        ("name", Type::Text),
        ("owner_id", Type::Text),
        ("description", Type::Text),
        ("status", Type::Text),
    ];

    fn cells(&self) -> Vec<Cell> {
        vec![
            text(&self.name),
            text(&self.owner_id),
            text(&self.description),
            text(&self.status),
        ]
    }

    fn read(cells: &mut Cells) -> Result<Self, String> {
        Ok(Self {
            name: cells.text()?,
            owner_id: cells.text()?,
            description: cells.text()?,
            status: cells.text()?,
        })
    }
}

impl Table for Contract {
    const NAME: &'static str = "contracts";
    const COLUMNS: &'static [Column] = &[
        ("project_id", Type::Text),
        ("employee_id", Type::Text),
        ("title", Type::Text),
        ("value_minor", Type::Int),
        ("currency", Type::Text),
        ("status", Type::Text),
    ];

    fn cells(&self) -> Vec<Cell> {
        let [minor, currency] = money(self.value);
        vec![
            text(&self.project_id),
            text(&self.employee_id),
            text(&self.title),
            minor,
            currency,
            text(&self.status),
        ]
    }

    fn read(cells: &mut Cells) -> Result<Self, String> {
        Ok(Self {
            project_id: cells.text()?,
            employee_id: cells.text()?,
            title: cells.text()?,
            value: cells.money()?,
            status: cells.text()?,
        })
    }
}

impl Table for Earning {
    const NAME: &'static str = "earnings";
    const COLUMNS: &'static [Column] = &[
        ("contract_id", Type::Text),
        ("user_id", Type::Text),
        ("value_minor", Type::Int),
        ("currency", Type::Text),
    ];

    fn cells(&self) -> Vec<Cell> {
        let [minor, currency] = money(self.value);
        vec![
            text(&self.contract_id),
            text(&self.user_id),
            minor,
            currency,
        ]
    }

    fn read(cells: &mut Cells) -> Result<Self, String> {
        Ok(Self {
            contract_id: cells.text()?,
            user_id: cells.text()?,
            value: cells.money()?,
        })
    }
}

impl Table for Article {
    const NAME: &'static str = "articles";
    const COLUMNS: &'static [Column] = &[
        ("project_id", Type::Text),
        ("author_id", Type::Text),
        ("title", Type::Text),
        ("body", Type::Text),
        ("status", Type::Text),
    ];

    fn cells(&self) -> Vec<Cell> {
        vec![
            text(&self.project_id),
            text(&self.author_id),
            text(&self.title),
            text(&self.body),
            text(&self.status),
        ]
    }

    fn read(cells: &mut Cells) -> Result<Self, String> {
        Ok(Self {
            project_id: cells.text()?,
            author_id: cells.text()?,
            title: cells.text()?,
            body: cells.text()?,
            status: cells.text()?,
        })
    }
}

fn money(value: Money) -> [Cell; 2] {
    [Cell::Int(value.minor()), text(value.currency().code())]
}
