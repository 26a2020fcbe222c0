//! The contract of every content store.

use nestcms::{
    adapters::sqlite::{Database, SqliteContent},
    domain::{
        content::{Article, Content, Contract, Earning, Pipeline, Profile, Project, Record},
        event::Timestamp,
        money::{Currency, Money},
    },
    metrics::Metrics,
    ports::{ContentStore, Kept, Repository, See},
    settings::Settings,
};
use resilience_core::{breaker::CircuitBreaker, clock::SharedClock};
use serde_json::json;

use crate::flows::support::TempDir;

/// H5.c2
#[tokio::test]
async fn sqlite_keeps_the_contract_of_the_content() {
    let (_dir, store) = sqlite().await;
    contract(&store, async || {}).await;
}

/// A content store on a new file.
pub(crate) async fn sqlite() -> (TempDir, SqliteContent) {
    let dir = TempDir::new();
    let mut settings = Settings::demo().database;
    settings.path = dir.0.join("contract.db");
    let database = Database::open(&settings, CircuitBreaker::new("database"));
    let metrics = Metrics::new("test", SharedClock::std());
    (dir, SqliteContent::new(database.await.unwrap(), metrics))
}

/// What every content store must do, whatever engine stands behind it. Aggregations show all that
/// was written before `caught_up`.
pub(crate) async fn contract<S: ContentStore>(store: &S, caught_up: impl AsyncFn()) {
    each(store, project("p-1", "demo")).await;
    each(store, user("u-1")).await;
    each(store, work("c-1", "p-1")).await;
    each(store, earning("e-1", "c-1", "1.250")).await;
    each(store, article("a-1", "p-1")).await;
    what_it_names_must_be_there(store).await;
    lists_are_narrowed_down(store).await;
    store.insert(&earning("e-2", "c-1", "0.250")).await.unwrap();
    caught_up().await;
    pipelines_answer(store).await;
}

/// Made once, found, changed if the version fits.
async fn each<T: Content>(store: &impl Repository<T>, new: Record<T>) {
    let see = &See::Newest;
    let id = new.id.as_str();
    assert_eq!(store.find(id, see).await.unwrap(), None);
    assert!(matches!(store.update(&new).await.unwrap(), Kept::Missing));
    match store.insert(&new).await.unwrap() {
        Kept::Done(record, _) => assert_eq!(*record, new),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.find(id, see).await.unwrap().as_ref(), Some(&new));
    assert!(matches!(store.insert(&new).await.unwrap(), Kept::Taken));
    let mut change = Record {
        updated_at: Timestamp::from_millis(9),
        created_at: Timestamp::from_millis(99),
        ..new.clone()
    };
    for (asked, wanted) in [(1, 2), (0, 3)] {
        change.version = asked;
        let Kept::Done(now, _) = store.update(&change).await.unwrap() else {
            panic!("{} {asked}", T::KIND)
        };
        assert_eq!((now.version, now.created_at), (wanted, new.created_at));
        assert_eq!(now.updated_at, change.updated_at);
        assert_eq!(store.find(id, see).await.unwrap(), Some(*now));
    }
    change.version = 2;
    assert!(matches!(
        store.update(&change).await.unwrap(),
        Kept::Stale(3)
    ));
}

async fn what_it_names_must_be_there<S: ContentStore>(store: &S) {
    let orphan = store.insert(&work("c-2", "nowhere")).await.unwrap();
    assert!(matches!(orphan, Kept::Unrelated), "{orphan:?}");
    let mut lost = work("c-1", "nowhere");
    lost.version = 0;
    assert!(matches!(
        store.update(&lost).await.unwrap(),
        Kept::Unrelated
    ));
    let found: Option<Record<Contract>> = store.find("c-1", &See::Newest).await.unwrap();
    assert_eq!(found.unwrap().content.project_id, "p-1");
    let mut taken = user("u-2");
    taken.content.email = user("u-1").content.email;
    assert!(matches!(store.insert(&taken).await.unwrap(), Kept::Taken));
}

async fn lists_are_narrowed_down<S: ContentStore>(store: &S) {
    for id in ["l-1", "l-2", "l-3"] {
        store.insert(&project(id, "lister")).await.unwrap();
    }
    let owner = ("owner_id", "lister".to_owned());
    let see = &See::Newest;
    let list = async |fields: &[(&'static str, String)], limit| {
        let found: Vec<Record<Project>> = store.list(fields, limit, see).await.unwrap();
        found.into_iter().map(|r| r.id).collect::<Vec<_>>()
    };
    let fields = [owner, ("status", "archived".to_owned())];
    assert_eq!(list(&fields[..1], 10).await, ["l-1", "l-2", "l-3"]);
    assert_eq!(list(&fields[..1], 2).await, ["l-1", "l-2"]);
    assert!(list(&fields, 10).await.is_empty());
    let wrong = [("1 = 1 --", String::new())];
    let refused: Result<Vec<Record<Project>>, _> = store.list(&wrong, 1, see).await;
    assert!(refused.is_err());
}

async fn pipelines_answer<S: ContentStore>(store: &S) {
    let rows = async |pipeline| json!(store.run(pipeline).await.unwrap());
    let find = |rows: serde_json::Value, id: &str| {
        let rows = rows.as_array().unwrap();
        let row = rows.iter().find(|row| row["id"] == id);
        row.unwrap_or_else(|| panic!("no {id} in {rows:?}")).clone()
    };
    assert_eq!(
        find(rows(Pipeline::UserLookups).await, "u-1"),
        json!({ "id": "u-1", "name": "Name", "role": "editor", "projects": 0, "contracts": 1 })
    );
    assert_eq!(
        find(rows(Pipeline::ProjectRelations).await, "p-1"),
        json!({ "id": "p-1", "name": "Project", "owner_id": "demo", "owner_name": "",
                "contracts": 1, "articles": 1 })
    );
    assert_eq!(
        find(rows(Pipeline::ContractEmployee).await, "c-1"),
        json!({ "id": "c-1", "title": "Work", "status": "active", "project_name": "Project",
                "employee_id": "u-1", "employee_name": "Name" })
    );
    let value = json!({ "amount": "1.500", "currency": "KWD" });
    let sums = json!([{ "user_id": "u-1", "earnings": 2, "value": value }]);
    assert_eq!(rows(Pipeline::Earnings).await, sums);
    let counts = rows(Pipeline::Statistics).await;
    assert!(
        counts
            .as_array()
            .unwrap()
            .contains(&json!({ "what": "earnings", "count": 2 })),
        "{counts}"
    );
}

fn record<T>(id: &str, content: T) -> Record<T> {
    Record {
        id: id.to_owned(),
        content,
        created_at: Timestamp::from_millis(1),
        updated_at: Timestamp::from_millis(1),
        version: 1,
    }
}

fn user(id: &str) -> Record<Profile> {
    record(
        id,
        Profile {
            email: format!("{id}@nestcms.test"),
            name: "Name".to_owned(),
            role: "editor".to_owned(),
        },
    )
}

pub(crate) fn project(id: &str, owner: &str) -> Record<Project> {
    record(
        id,
        Project {
            name: "Project".to_owned(),
            owner_id: owner.to_owned(),
            description: "Two\nlines".to_owned(),
            status: "active".to_owned(),
        },
    )
}

fn work(id: &str, project: &str) -> Record<Contract> {
    record(
        id,
        Contract {
            project_id: project.to_owned(),
            employee_id: "u-1".to_owned(),
            title: "Work".to_owned(),
            value: dinars("100"),
            status: "active".to_owned(),
        },
    )
}

fn earning(id: &str, contract: &str, amount: &str) -> Record<Earning> {
    record(
        id,
        Earning {
            contract_id: contract.to_owned(),
            user_id: "u-1".to_owned(),
            value: dinars(amount),
        },
    )
}

pub(crate) fn article(id: &str, project: &str) -> Record<Article> {
    record(
        id,
        Article {
            project_id: project.to_owned(),
            author_id: "u-1".to_owned(),
            title: "News".to_owned(),
            body: "It is \"so\".".to_owned(),
            status: "draft".to_owned(),
        },
    )
}

fn dinars(amount: &str) -> Money {
    Money::parse(amount, Currency::from_code("KWD").unwrap()).unwrap()
}
