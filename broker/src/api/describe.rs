//! DescribeConfigs: what holds, and where it comes from.
//!
//! Every known setting is described, set or not, with where its value comes from and what would
//! hold without it. A topic's or group's own value comes first, then the broker's settings that are
//! its synonyms: what was altered for this broker, for all brokers, what it was started with, the
//! default; each of these in every unit, the finest first. KIP-133, KIP-226, KIP-569. Shell.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use protocol::api::configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use protocol::config::{ConfigDef, find};
use protocol::error_code::ErrorCode;
use protocol::ids::BrokerId;

use super::parts::Refusal;
use crate::config::{BrokerConfig, GroupConfig};
use crate::controller::check_name;
use crate::metadata::{Image, Resource};

/// Levels of a broker's log among the kinds of resources.
pub(super) const BROKER_LOGGER: i8 = 8;
/// Subscriptions to client metrics among the kinds of resources.
pub(super) const CLIENT_METRICS: i8 = 16;

/// Where a value comes from, by the numbers of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Topic,
    DynamicBroker,
    DynamicDefault,
    StaticBroker,
    Default,
    Group,
}

impl Source {
    fn to_wire(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::DynamicBroker => 2,
            Self::DynamicDefault => 3,
            Self::StaticBroker => 4,
            Self::Default => 5,
            Self::Group => 8,
        }
    }
}

/// A broker's settings with every place that they could come from.
pub(crate) struct Places {
    own: BTreeMap<String, String>,
    all: BTreeMap<String, String>,
    start: BTreeMap<&'static str, String>,
    /// What single listeners were started with, by full names.
    start_of_listeners: BTreeMap<String, String>,
    effective: BrokerConfig,
    of_topics: Vec<(&'static ConfigDef, Option<String>)>,
}

impl Places {
    /// Those of the broker that was started with `start`.
    pub(crate) fn new(image: &Image, start: &BrokerConfig) -> Self {
        let set = |resource: &Resource| {
            let owned = |(name, text): (&str, &str)| (name.to_owned(), text.to_owned());
            image.configs(resource).map(owned).collect()
        };
        let effective = image.broker_config(start).into_owned();
        let of_topics = effective.topic_defaults();
        let given = start.pairs().into_iter().filter(|(def, _)| start.given.has(def.name));
        Self {
            own: set(&Resource::Broker(Some(BrokerId(start.node_id)))),
            all: set(&Resource::Broker(None)),
            start: given.filter_map(|(def, text)| Some((def.name, text?))).collect(),
            start_of_listeners: start
                .of_listeners()
                .map(|(name, text)| (name, text.to_owned()))
                .collect(),
            effective,
            of_topics,
        }
    }

    /// Where the broker's setting `name` could come from, the strongest first.
    fn of(&self, name: &'static str) -> Vec<Place> {
        let units = BrokerConfig::units(name);
        let units = if units.is_empty() { &[name][..] } else { units };
        let find_in = |source: Source, unit: &'static str| {
            let text = match source {
                Source::DynamicBroker => self.own.get(unit).map(String::as_str),
                Source::DynamicDefault => self.all.get(unit).map(String::as_str),
                Source::StaticBroker => self.start.get(unit).map(String::as_str),
                Source::Default => find(BrokerConfig::DEFS, unit).and_then(|def| def.default),
                Source::Topic | Source::Group => None,
            };
            text.map(|text| Place { name: unit.into(), text: text.to_owned(), source })
        };
        let sources =
            [Source::DynamicBroker, Source::DynamicDefault, Source::StaticBroker, Source::Default];
        let places =
            sources.into_iter().flat_map(|source| units.iter().map(move |unit| (source, *unit)));
        let mut places: Vec<_> =
            places.filter_map(|(source, unit)| find_in(source, unit)).collect();
        // A coarser unit's default says something only of what a finer unit stands over.
        let is_set = places.iter().any(|place| place.name == name);
        places.retain(|place| is_set || place.source != Source::Default);
        places
    }

    /// Every setting of a topic, whose own values `own` tells.
    pub(crate) fn of_topic<'a>(
        &'a self,
        own: impl Fn(&str) -> Option<&'a str> + 'a,
    ) -> impl Iterator<Item = Setting> + 'a {
        self.of_topics.iter().map(move |(def, default)| {
            self.over(def, default.clone(), own(def.name), Source::Topic)
        })
    }

    fn of_group<'a>(
        &'a self,
        own: impl Fn(&str) -> Option<&'a str> + 'a,
    ) -> impl Iterator<Item = Setting> + 'a {
        let defaults = GroupConfig::defaults(&self.effective).into_iter();
        defaults.map(move |(def, default)| self.over(def, default, own(def.name), Source::Group))
    }

    /// A setting of something that takes its defaults from the broker.
    fn over(
        &self,
        def: &'static ConfigDef,
        default: Option<String>,
        own: Option<&str>,
        source: Source,
    ) -> Setting {
        let value = own.map(str::to_owned).or(default);
        let own = own.map(|text| Place { name: def.name.into(), text: text.to_owned(), source });
        // What no broker's setting stands behind comes from nowhere but itself.
        let broker = def.synonym.map_or_else(Vec::new, |synonym| self.of(synonym));
        let places = own.into_iter().chain(broker).collect();
        Setting { def, name: def.name.into(), value, places, is_read_only: false }
    }

    /// Every setting of the broker.
    fn of_broker(&self) -> Vec<Setting> {
        let setting = |(def, value): (&'static ConfigDef, Option<String>)| {
            // The finer units hold over it, but are no places that its own value comes from.
            let places = self.of(def.name).into_iter().filter(|place| place.name == def.name);
            let (name, places) = (def.name.into(), places.collect());
            Setting { def, name, value, places, is_read_only: !def.is_dynamic }
        };
        let pairs = self.effective.pairs().into_iter();
        // Settings of single listeners stand there together, under a name that nobody could set.
        let own = pairs.filter(|(def, _)| !def.name.ends_with('.')).map(setting);
        let of_listeners = self.effective.of_listeners();
        own.chain(of_listeners.filter_map(|(name, text)| self.of_listener(name, text))).collect()
    }

    /// A setting of a single listener, by its full name.
    fn of_listener(&self, name: String, text: &str) -> Option<Setting> {
        let def = BrokerConfig::definition(&name)?;
        let place = |texts: &BTreeMap<String, String>, source| {
            let text = texts.get(&name)?.clone();
            Some(Place { name: name.clone().into(), text, source })
        };
        let altered = place(&self.own, Source::DynamicBroker);
        let started = place(&self.start_of_listeners, Source::StaticBroker);
        let places = altered.into_iter().chain(started).collect();
        let (value, is_read_only) = (Some(text.to_owned()), !def.is_dynamic);
        Some(Setting { def, name: name.into(), value, places, is_read_only })
    }

    /// What is set for all brokers at once.
    fn of_all(&self) -> Vec<Setting> {
        let setting = |def: &'static ConfigDef| {
            let text = self.all.get(def.name)?.clone();
            let place =
                Place { name: def.name.into(), text: text.clone(), source: Source::DynamicDefault };
            let (name, places) = (def.name.into(), vec![place]);
            Some(Setting { def, name, value: Some(text), places, is_read_only: false })
        };
        BrokerConfig::DEFS.iter().filter_map(setting).collect()
    }
}

/// A place from which a setting's value could come.
#[derive(Debug)]
struct Place {
    name: Cow<'static, str>,
    text: String,
    source: Source,
}

/// A setting with all the places from which its value could come, the strongest first.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) def: &'static ConfigDef,
    name: Cow<'static, str>,
    value: Option<String>,
    places: Vec<Place>,
    is_read_only: bool,
}

impl Setting {
    /// The value that holds. `None`: null, or a secret.
    pub(crate) fn value(&self) -> Option<String> {
        self.value.clone().filter(|_| !self.def.is_sensitive())
    }

    /// Where that comes from, by the number of the wire.
    pub(crate) fn source(&self) -> i8 {
        self.places.first().map_or(Source::Default, |place| place.source).to_wire()
    }

    fn describe(self, with_synonyms: bool, with_doc: bool) -> DescribeConfigsResourceResult {
        let is_sensitive = self.def.is_sensitive();
        let (value, config_source) = (self.value(), self.source());
        let places = self.places.into_iter().filter(|_| with_synonyms);
        let synonyms = places.map(|place| DescribeConfigsSynonym {
            name: place.name.into_owned(),
            value: (!is_sensitive).then_some(place.text),
            source: place.source.to_wire(),
        });
        DescribeConfigsResourceResult {
            name: self.name.into_owned(),
            value,
            read_only: self.is_read_only,
            config_source,
            is_sensitive,
            synonyms: synonyms.collect(),
            config_type: self.def.kind.to_wire(),
            documentation: with_doc.then(|| self.def.doc.trim().to_owned()),
        }
    }
}

/// Describes settings.
pub(crate) fn describe_configs(
    image: &Image,
    config: &BrokerConfig,
    request: &DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let places = Places::new(image, config);
    // Each is described once: a small request that names one thing ten thousand times would have
    // an answer of hundreds of times its size.
    let mut known = BTreeSet::new();
    let is_first = |resource: &&DescribeConfigsResource| {
        let DescribeConfigsResource { resource_type, resource_name, .. } = resource;
        Resource::from_wire(*resource_type, resource_name).is_none_or(|it| known.insert(it))
    };
    let describe = |resource: &DescribeConfigsResource| {
        let (resource_type, resource_name) =
            (resource.resource_type, resource.resource_name.clone());
        let keys = resource.configuration_keys.as_deref().unwrap_or_default();
        let is_asked =
            |setting: &Setting| keys.is_empty() || keys.iter().any(|key| *key == setting.name);
        let described = settings(image, config, &places, resource).map(|settings| {
            let asked = settings.into_iter().filter(is_asked);
            let doc = request.include_documentation;
            asked.map(|it| it.describe(request.include_synonyms, doc)).collect::<Vec<_>>()
        });
        let (configs, (code, error_message)) = match described {
            Ok(configs) => (configs, (ErrorCode::None, String::new())),
            Err((code, message)) => (Vec::new(), (code, message)),
        };
        let (error_code, error_message) = (code.to_wire(), Some(error_message));
        DescribeConfigsResult { error_code, error_message, resource_type, resource_name, configs }
    };
    let results = request.resources.iter().filter(is_first).map(describe).collect();
    DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() }
}

/// Every setting of a resource.
fn settings(
    image: &Image,
    config: &BrokerConfig,
    places: &Places,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Setting>, Refusal> {
    let DescribeConfigsResource { resource_type, resource_name, .. } = resource;
    let known = Resource::from_wire(*resource_type, resource_name)
        .ok_or_else(|| unknown_resource(*resource_type, resource_name))?;
    let own: BTreeMap<_, _> = image.configs(&known).collect();
    let own = |name: &str| own.get(name).copied();
    match known {
        Resource::Topic(topic) if image.topic(&topic).is_none() => {
            check_name(&topic).map_err(|error| (error.code(), error.to_string()))?;
            let message = format!("topic {topic} does not exist");
            Err((ErrorCode::UnknownTopicOrPartition, message))
        }
        Resource::Topic(_) => Ok(places.of_topic(own).collect()),
        Resource::Group(_) => Ok(places.of_group(own).collect()),
        Resource::Broker(None) => Ok(places.of_all()),
        Resource::Broker(Some(id)) if id.0 == config.node_id => Ok(places.of_broker()),
        Resource::Broker(Some(id)) => {
            let message = format!("this is broker {}: ask broker {id} itself", config.node_id);
            Err((ErrorCode::InvalidRequest, message))
        }
    }
}

/// Why a resource of the wire has no settings here.
pub(super) fn unknown_resource(resource_type: i8, resource_name: &str) -> Refusal {
    let message = match (resource_type, resource_name) {
        (BROKER_LOGGER, _) => {
            "levels of the log are set where the broker is started, and for all of it".to_owned()
        }
        (CLIENT_METRICS, _) => "this broker does not collect the metrics of clients".to_owned(),
        (Resource::GROUP, "") => "a group has a name".to_owned(),
        (Resource::BROKER, name) => format!("{name:?} is no broker's id"),
        (kind, name) => format!("resource {name:?} of type {kind} has no settings"),
    };
    (ErrorCode::InvalidRequest, message)
}
