// Shows the API's document: by Swagger UI or by ReDoc, whichever this page has loaded.
"use strict";

const swagger = document.getElementById("swagger");
const redoc = document.getElementById("redoc");

if (swagger) {
  SwaggerUIBundle({
    url: swagger.dataset.document,
    domNode: swagger,
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    // No badge of a validator on someone else's server.
    validatorUrl: null,
  });
}
if (redoc) {
  Redoc.init(redoc.dataset.document, { expandResponses: "200", nativeScrollbars: true }, redoc);
}
