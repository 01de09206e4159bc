//! The OpenAPI document: what each route declares, and what holds for all of them.
//!
//! Every operation takes a bearer token, may answer 401 and 403, and sends its errors as problems.

use super::admin;
use sluice_api::problem::{MEDIA_TYPE, ProblemType};
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, InfoBuilder, OpenApi, PathItem, Ref, RefOr, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;

/// Name of the security scheme.
const BEARER: &str = "person_token";
/// Answers of every operation.
const FOR_ALL: [ProblemType; 2] = [ProblemType::Unauthenticated, ProblemType::Forbidden];

/// The OpenAPI document of the admin API.
pub fn openapi() -> OpenApi {
    let mut router = OpenApiRouter::new();
    for route in admin::routes() {
        router = router.routes(route.handlers);
    }
    let mut document = router.into_openapi();
    document.info = InfoBuilder::new()
        .title("Sluice admin API")
        .version("1")
        .description(Some(
            "Publishes, approves and retracts patches, and shows what became of them. Errors are RFC 9457 problems.",
        ))
        .build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(BEARER, SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    document.security = Some(vec![SecurityRequirement::new(BEARER, Vec::<String>::new())]);
    for (path, item) in &mut document.paths.paths {
        for (verb, operation) in operations(item) {
            complete(operation, verb, path);
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("delete", &mut item.delete),
        ("head", &mut item.head),
        ("patch", &mut item.patch),
    ];
    all.into_iter().filter_map(|(verb, operation)| operation.as_mut().map(|operation| (verb, operation)))
}

/// Gives the operation an id of its own, the answers that all have, and problems as what they are.
fn complete(operation: &mut Operation, verb: &str, path: &str) {
    let words = path.trim_start_matches("/v1/").replace(['/', '-'], "_").replace(['{', '}'], "");
    operation.operation_id = Some(format!("{verb}_{words}"));
    for kind in FOR_ALL {
        let problem = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
        let response = ResponseBuilder::new().description(kind.title()).content(MEDIA_TYPE, problem).build();
        operation.responses.responses.entry(kind.status().to_string()).or_insert(RefOr::T(response));
    }
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if response.description.is_empty() {
            response.description = describe(status).to_owned();
        }
        let is_problem = status.starts_with(['4', '5']);
        if is_problem && let Some(content) = response.content.swap_remove("application/json") {
            response.content.insert(MEDIA_TYPE.to_owned(), content);
        }
    }
}

/// The words of a status for which the route has none of its own.
fn describe(status: &str) -> &'static str {
    match status {
        "200" => "As asked for",
        "201" => "Made",
        "404" => ProblemType::NotFound.title(),
        "409" => ProblemType::Conflict.title(),
        "413" => ProblemType::TooLarge.title(),
        "422" => ProblemType::Invalid.title(),
        "507" => ProblemType::Full.title(),
        _ => "See the problem's detail",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_operation_has_an_id_of_its_own_and_says_each_answer() {
        let mut document = openapi();
        let mut ids = BTreeSet::new();
        for item in document.paths.paths.values_mut() {
            for (verb, operation) in operations(item) {
                let id = operation.operation_id.clone().unwrap_or_default();
                assert!(id.starts_with(verb) && ids.insert(id.clone()), "{id}");
                for (status, response) in &operation.responses.responses {
                    let RefOr::T(response) = response else { continue };
                    assert!(!response.description.is_empty(), "{id} {status}");
                }
                assert!(operation.responses.responses.contains_key("401"), "{id}");
            }
        }
        assert!(ids.contains("delete_endpoints_id"), "{ids:?}");
    }
}
