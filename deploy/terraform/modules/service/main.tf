# What one service stands on, an app's or a function's: its account and its rights, its secrets without their values, and what brings it jobs.

resource "google_service_account" "service" {
  project      = var.project
  account_id   = var.service.account
  display_name = var.service.title
}

resource "google_project_iam_member" "role" {
  for_each = { for held in var.service.roles : held.role => held }
  project  = var.project
  role     = each.value.role
  member   = google_service_account.service.member

  dynamic "condition" {
    for_each = each.value.condition[*]
    content {
      title      = condition.value.title
      expression = condition.value.expression
    }
  }
}

resource "google_secret_manager_secret" "secret" {
  for_each  = var.service.secrets
  project   = var.project
  secret_id = each.value

  replication {
    auto {}
  }
}

resource "google_secret_manager_secret_iam_member" "reader" {
  for_each  = var.service.secrets
  project   = var.project
  secret_id = google_secret_manager_secret.secret[each.key].secret_id
  role      = var.settings.secret_reader
  member    = google_service_account.service.member
}
