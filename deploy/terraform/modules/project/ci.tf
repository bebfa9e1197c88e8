# Continuous integration deploys without a key: GitHub signs a token for each run, which Google exchanges. See docs/ci.md.

locals {
  ci   = var.github_repository == null ? {} : { (var.github_repository.id) = var.github_repository }
  main = "assertion.ref == 'refs/heads/main'"
  tags = "(${local.main} || assertion.ref.startsWith('refs/tags/v'))"
}

resource "google_project_service" "federation" {
  for_each           = length(local.ci) == 0 ? toset([]) : toset(var.project.deployer.apis)
  project            = var.project.id
  service            = each.value
  disable_on_destroy = false
}

resource "google_service_account" "deployer" {
  for_each     = local.ci
  project      = var.project.id
  account_id   = var.project.deployer.account
  display_name = "firelaunch: deploys for GitHub's repository ${each.key}"
  depends_on   = [google_project_service.api]
}

resource "google_project_iam_member" "deployer" {
  for_each = length(local.ci) == 0 ? toset([]) : toset(var.project.deployer.roles)
  project  = var.project.id
  role     = each.value
  member   = google_service_account.deployer[var.github_repository.id].member
}

resource "google_iam_workload_identity_pool" "github" {
  for_each                  = local.ci
  project                   = var.project.id
  workload_identity_pool_id = "github"
  depends_on                = [google_project_service.federation]
}

resource "google_iam_workload_identity_pool_provider" "github" {
  for_each                           = local.ci
  project                            = var.project.id
  workload_identity_pool_id          = google_iam_workload_identity_pool.github[each.key].workload_identity_pool_id
  workload_identity_pool_provider_id = "github"
  attribute_condition                = "assertion.repository_id == '${each.value.id}' && assertion.repository_owner_id == '${each.value.owner_id}' && ${each.value.tags ? local.tags : local.main}"
  attribute_mapping = {
    "google.subject"          = "assertion.sub"
    "attribute.repository_id" = "assertion.repository_id"
  }

  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }
}

resource "google_service_account_iam_member" "github" {
  for_each           = local.ci
  service_account_id = google_service_account.deployer[each.key].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.github[each.key].name}/attribute.repository_id/${each.value.id}"
}
