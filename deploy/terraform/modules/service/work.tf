# The queue that brings an app its jobs, and the regular sweep for those that the queue was never told of.

locals {
  work = var.service.work == null ? {} : { (var.name) = var.service.work }
  url  = { for name, work in local.work : name => replace(work.url, "PROJECT_NUMBER", var.project_number) }
}

resource "google_service_account" "work" {
  for_each     = local.work
  project      = var.project
  account_id   = each.value.account
  display_name = each.value.title
}

resource "google_service_account_iam_member" "acts_as_work" {
  for_each           = local.work
  service_account_id = google_service_account.work[each.key].name
  role               = var.settings.account_user
  member             = google_service_account.service.member
}

resource "google_cloud_tasks_queue" "queue" {
  for_each = local.work
  project  = var.project
  location = var.region
  name     = each.value.queue

  retry_config {
    max_attempts = var.settings.queue.max_attempts
    min_backoff  = var.settings.queue.min_backoff
    max_backoff  = var.settings.queue.max_backoff
  }
}

resource "google_cloud_tasks_queue_iam_member" "enqueuer" {
  for_each = local.work
  project  = var.project
  location = var.region
  name     = google_cloud_tasks_queue.queue[each.key].name
  role     = var.settings.enqueuer
  member   = google_service_account.service.member
}

resource "google_cloud_scheduler_job" "sweep" {
  for_each = local.work
  project  = var.project
  region   = var.region
  name     = each.value.sweep
  schedule = var.settings.sweep.schedule

  http_target {
    uri         = "${local.url[each.key]}${var.settings.sweep.path}"
    http_method = var.settings.sweep.method

    oidc_token {
      service_account_email = google_service_account.work[each.key].email
      audience              = local.url[each.key]
    }
  }
}
