# docker buildx bake                     every image, for both platforms
# docker buildx bake catalogue --load    one image, into the Docker of this machine; with PLATFORMS=linux/amd64 or
#                                        linux/arm64 where that takes but one

variable "PLATFORMS" {
  default = "linux/amd64,linux/arm64"
}

# What stands before the names, up to the last slash.
variable "REGISTRY" {
  default = ""
}

variable "VERSION" {
  default = "1.0.0"
}

variable "COMMIT" {
  default = "unknown"
}

group "default" {
  targets = ["services", "load"]
}

target "services" {
  name       = service
  matrix     = { service = ["gateway", "catalogue", "user", "links"] }
  context    = "."
  dockerfile = "Dockerfile"
  platforms  = split(",", PLATFORMS)
  tags       = ["${REGISTRY}storefront-${service}:${VERSION}"]
  args = {
    SERVICE = service
    VERSION = VERSION
    COMMIT  = COMMIT
  }
}

target "load" {
  context    = "."
  dockerfile = "loadtest/Dockerfile"
  platforms  = split(",", PLATFORMS)
  tags       = ["${REGISTRY}storefront-load:${VERSION}"]
  args = {
    VERSION = VERSION
    COMMIT  = COMMIT
  }
}
