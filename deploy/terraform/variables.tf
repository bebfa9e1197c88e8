# Values come from firelaunch.auto.tfvars.json, which `firelaunch terraform` writes.

variable "project" {
  description = "The Firebase project, and what its apps share."
  type = object({
    id         = string
    region     = string
    apis       = list(string)
    repository = string
    builder = object({
      account = string
      title   = string
      roles = list(object({
        role      = string
        condition = optional(object({ title = string, expression = string }))
      }))
    })
    databases = map(object({
      point_in_time = bool
      backup_days   = number
      indexes = list(object({
        collection = string
        scope      = string
        fields = list(object({
          path      = string
          order     = optional(string)
          array     = optional(string)
          dimension = optional(number)
        }))
      }))
      overrides = list(object({ collection = string, field = string, ttl = bool }))
    }))
    topics    = list(string)
    publisher = string
    alert     = object({ name = string, amount = number, thresholds = list(number) })
    deployer  = object({ account = string, roles = list(string), apis = list(string) })
  })
}

variable "services" {
  description = "The services of apps, by the apps' ids, and of functions."
  type = map(object({
    title   = string
    account = string
    roles = list(object({
      role      = string
      condition = optional(object({ title = string, expression = string }))
    }))
    secrets = map(string)
    index   = optional(object({ name = string, deployed = string, dimensions = number }))
    work = optional(object({
      queue   = string
      account = string
      title   = string
      roles = list(object({
        role      = string
        condition = optional(object({ title = string, expression = string }))
      }))
      schedules = list(object({
        name     = string
        cron     = string
        zone     = optional(string)
        retries  = number
        url      = string
        path     = string
        deadline = string
      }))
      uploads = map(object({ topic = string, subscription = string, filter = string, url = string, path = string }))
    }))
  }))
}

variable "settings" {
  description = "Settings of queues and of Scheduler's jobs, and the roles that are given on single resources."
  type = object({
    queue   = object({ max_attempts = number, min_backoff = string, max_backoff = string })
    uploads = object({ ack_seconds = number, retention = string, min_backoff = string, max_backoff = string })
    index = object({
      label                 = string
      update_method         = string
      distance              = string
      shard                 = string
      approximate_neighbors = number
      leaf_embeddings       = number
      leaf_percent          = number
      machine_type          = string
      min_replicas          = number
      max_replicas          = number
    })
    secret_reader = string
    enqueuer      = string
    account_user  = string
  })
}

variable "github_repository" {
  description = <<-EOT
    The repository whose main branch may deploy by Workload Identity Federation, and its owner, by their numbers; null for
    none. Names can be given up and taken by somebody else, numbers cannot: gh api repos/OWNER/NAME --jq '.id, .owner.id'
    With tags = true, tags that begin with "v" may deploy too; protect them.
  EOT
  type        = object({ id = string, owner_id = string, tags = optional(bool, false) })
  default     = null

  validation {
    condition     = var.github_repository == null ? true : can(regex("^[0-9]+/[0-9]+$", "${var.github_repository.owner_id}/${var.github_repository.id}"))
    error_message = "Both are numbers: gh api repos/OWNER/NAME --jq '.id, .owner.id'"
  }
}

variable "billing_account" {
  description = "Id of the billing account, for the spending alert of the project; null for none."
  type        = string
  default     = null
}
